import {
  DescribeHyperParameterTuningJobCommand,
  type DescribeHyperParameterTuningJobResponse,
  type HyperParameterTrainingJobDefinition,
  type HyperParameterTrainingJobSummary,
  ListTrainingJobsForHyperParameterTuningJobCommand,
  type ParameterRanges,
} from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Badge from "@cloudscape-design/components/badge";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Grid from "@cloudscape-design/components/grid";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import ProgressBar from "@cloudscape-design/components/progress-bar";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { tagsOf } from "../aws/copies";
import { wording } from "../aws/errors";
import { CodeModal } from "../components/Code";
import { Arn, Named, NetworkOf, present } from "../components/Described";
import { Page } from "../components/Page";
import { isOver, Status } from "../components/Status";
import { Tags } from "../components/Tags";
import { useWords } from "../i18n";
import { type Code, tuningJobCode } from "../model/code";
import { instanceGroups } from "../model/instances";
import { tuningRequestOf } from "../model/request";
import { axes, type Trial, trials } from "../model/tuning";
import { DeleteTuning, StopTuning } from "./TuningJobs";

const LIVE_MILLISECONDS = 3000;

export default function TuningJob({ name }: { name: string }) {
  const { t } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const [asking, setAsking] = useState<"stop" | "delete">();
  const notices = useNotices();
  const [code, setCode] = useState<Code[]>();
  const { value: found, error, refresh } = usePoll(
    () => load(aws, name),
    [aws, name],
    ({ job }) => (isOver(job.HyperParameterTuningJobStatus) ? undefined : LIVE_MILLISECONDS),
  );
  const trail: [string, string][] = [[t("tunings.title"), "#/tuning"]];
  if (found === undefined) {
    return (
      <Page title={name} trail={trail}>
        {error === undefined ? t("common.loading") : (
          <Alert type="error" action={<Button href="#/tuning">{t("tunings.title")}</Button>}>{wording(error)}</Alert>
        )}
      </Page>
    );
  }
  const { job, children } = found;
  const objective = job.HyperParameterTuningJobConfig?.HyperParameterTuningJobObjective?.MetricName ?? "";
  const done = trials(children);
  const showCode = async () => {
    // Who may not list tags sees the code without them, and why.
    const tags = await tagsOf(aws, job.HyperParameterTuningJobArn).catch((failure: unknown) => {
      notices.failed(failure);
      return [];
    });
    setCode(tuningJobCode(tuningRequestOf(job, tags)));
  };
  return (
    <Page
      title={name}
      trail={trail}
      actions={
        <SpaceBetween direction="horizontal" size="xs">
          <Button iconName="refresh" ariaLabel={t("common.refresh")} onClick={refresh} />
          <Button disabled={job.HyperParameterTuningJobStatus !== "InProgress"} onClick={() => setAsking("stop")}>{t("jobs.stop")}</Button>
          <Button disabled={!isOver(job.HyperParameterTuningJobStatus)} onClick={() => setAsking("delete")}>{t("common.delete")}</Button>
          <Button onClick={() => void showCode()}>{t("code.view")}</Button>
          <Button disabled={job.TrainingJobDefinition === undefined} disabledReason={t("tuning.several")}
            onClick={() => navigate(`/create-tuning/${name}`)}>
            {t("jobs.clone")}
          </Button>
        </SpaceBetween>
      }
    >
      {error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(error)}</Alert>}
      {job.FailureReason && <Alert type="error" header={t("tuning.failed")}>{job.FailureReason}</Alert>}
      <Summary job={job} objective={objective} />
      <Best job={job} />
      {done.length > 1 && <Parallel done={done} objective={objective} best={job.BestTrainingJob?.TrainingJobName} />}
      {done.length > 1 && <Scatters done={done} objective={objective} />}
      <Children items={children} objective={objective} />
      <Settings job={job} />
      {definitionsOf(job).map((definition, index) => (
        <Definition key={index} definition={definition} ranges={definition.HyperParameterRanges ?? job.HyperParameterTuningJobConfig?.ParameterRanges} />
      ))}
      <Tags arn={job.HyperParameterTuningJobArn!} />
      {asking === "stop" && <StopTuning name={name} close={() => { setAsking(undefined); refresh(); }} />}
      {asking === "delete" && <DeleteTuning name={name} close={() => setAsking(undefined)} done={() => navigate("/tuning")} />}
      {code !== undefined && <CodeModal code={code} close={() => setCode(undefined)} />}
    </Page>
  );
}

/** What its training jobs are made by: one definition, or several. */
const definitionsOf = ({ TrainingJobDefinition, TrainingJobDefinitions }: DescribeHyperParameterTuningJobResponse) =>
  [TrainingJobDefinition, ...(TrainingJobDefinitions ?? [])].filter((each) => each !== undefined);

async function load(aws: Clients, HyperParameterTuningJobName: string) {
  const job = await aws.sagemaker.send(new DescribeHyperParameterTuningJobCommand({ HyperParameterTuningJobName }));
  const children: HyperParameterTrainingJobSummary[] = [];
  let NextToken: string | undefined;
  do {
    const page = await aws.sagemaker.send(
      new ListTrainingJobsForHyperParameterTuningJobCommand({ HyperParameterTuningJobName, MaxResults: 100, NextToken }),
    );
    children.push(...(page.TrainingJobSummaries ?? []));
    NextToken = page.NextToken;
  } while (NextToken !== undefined);
  return { job, children };
}

function Summary({ job, objective }: { job: DescribeHyperParameterTuningJobResponse; objective: string }) {
  const { t, moment } = useWords();
  const config = job.HyperParameterTuningJobConfig;
  const counters = job.TrainingJobStatusCounters;
  const all = config?.ResourceLimits?.MaxNumberOfTrainingJobs ?? 0;
  const ended = (counters?.Completed ?? 0) + (counters?.Stopped ?? 0) + (counters?.NonRetryableError ?? 0);
  const definitions = definitionsOf(job);
  const encrypted = definitions.length > 0 && definitions.every((each) => each.EnableInterContainerTrafficEncryption);
  return (
    <Container header={<Header variant="h2">{t("job.summary")}</Header>}>
      <SpaceBetween size="l">
        <KeyValuePairs
          columns={4}
          items={[
            { label: t("jobs.status"), value: <Status status={job.HyperParameterTuningJobStatus} /> },
            { label: t("jobs.created"), value: moment(job.CreationTime) },
            ...present(t("jobs.ended"), job.HyperParameterTuningEndTime, moment),
            { label: t("tuning.strategy"), value: config?.Strategy },
            { label: t("tuning.objective"), value: objective },
            {
              label: t("job.encryptionIs"),
              value: <Badge color={encrypted ? "green" : "grey"}>{t(encrypted ? "job.on" : "job.off")}</Badge>,
            },
            { label: t("status.Completed"), value: counters?.Completed ?? 0 },
            { label: t("status.InProgress"), value: counters?.InProgress ?? 0 },
            { label: t("status.Failed"), value: (counters?.NonRetryableError ?? 0) + (counters?.RetryableError ?? 0) },
          ]}
        />
        <ProgressBar
          value={all > 0 ? (100 * ended) / all : 0}
          label={t("tuning.progress")}
          status={isOver(job.HyperParameterTuningJobStatus) ? (job.HyperParameterTuningJobStatus === "Failed" ? "error" : "success") : "in-progress"}
          resultText={t("tuning.doneOf", { done: ended, all })}
        />
      </SpaceBetween>
    </Container>
  );
}

/** How it searches: limits, what ends it, and what it goes on from. */
function Settings({ job }: { job: DescribeHyperParameterTuningJobResponse }) {
  const { t, number, measured, duration } = useWords();
  const { HyperParameterTuningJobConfig: config, WarmStartConfig: warm } = job;
  const { ResourceLimits: limits, TuningJobCompletionCriteria: criteria } = config ?? {};
  const hyperband = config?.StrategyConfig?.HyperbandStrategyConfig;
  const parents = (warm?.ParentHyperParameterTuningJobs ?? []).flatMap((each) => each.HyperParameterTuningJobName ?? []);
  return (
    <Container header={<Header variant="h2">{t("tuning.settings")}</Header>}>
      <KeyValuePairs
        columns={3}
        items={[
          { label: t("job.arn"), value: <Arn arn={job.HyperParameterTuningJobArn} /> },
          ...present(t("tuning.maxJobs"), limits?.MaxNumberOfTrainingJobs, number),
          ...present(t("tuning.maxParallel"), limits?.MaxParallelTrainingJobs, number),
          ...present(t("tuning.maxRuntime"), limits?.MaxRuntimeInSeconds, duration),
          ...present(t("tuning.minResource"), hyperband?.MinResource, number),
          ...present(t("tuning.maxResource"), hyperband?.MaxResource, number),
          { label: t("tuning.earlyStopping"), value: t(config?.TrainingJobEarlyStoppingType === "Auto" ? "job.on" : "job.off") },
          ...present(t("tuning.target"), criteria?.TargetObjectiveMetricValue, measured),
          ...present(t("tuning.notImproving"), criteria?.BestObjectiveNotImproving?.MaxNumberOfTrainingJobsNotImproving, number),
          ...present(t("tuning.convergence"), criteria?.ConvergenceDetected?.CompleteOnConvergence, (on) =>
            t(on === "Enabled" ? "job.on" : "job.off")),
          ...present(t("tuning.autotune"), job.Autotune, () => t("job.on")),
          ...present(t("tuning.seed"), config?.RandomSeed, String),
          ...present(t("tuning.warmType"), warm?.WarmStartType, (type) => t(`tuning.${type}`)),
          ...present(t("tuning.parents"), warm, () => (
            <SpaceBetween size="xxs">
              {parents.map((parent) => <Link key={parent} href={`#/tuning/${parent}`}>{parent}</Link>)}
            </SpaceBetween>
          )),
        ]}
      />
    </Container>
  );
}

/** What a definition of training jobs says, and the ranges that are searched with it. */
function Definition({ definition, ranges }: { definition: HyperParameterTrainingJobDefinition; ranges: ParameterRanges | undefined }) {
  const { t, duration } = useWords();
  const choices = definition.HyperParameterTuningResourceConfig;
  const types = choices?.InstanceConfigs?.map(({ InstanceType, InstanceCount }) => ({ type: InstanceType ?? "", count: InstanceCount ?? 1 }));
  const { AlgorithmSpecification: algorithm } = definition;
  const name = definition.DefinitionName;
  const searched = [
    ...(ranges?.IntegerParameterRanges ?? []).map((range) => ({ kind: "Integer", ...range })),
    ...(ranges?.ContinuousParameterRanges ?? []).map((range) => ({ kind: "Continuous", ...range })),
    ...(ranges?.CategoricalParameterRanges ?? []).map((range) => ({ kind: "Categorical", ...range })),
    ...(ranges?.AutoParameters ?? []).map((range) => ({ kind: "Auto", ...range })),
  ];
  return (
    <SpaceBetween size="l">
      <Container header={<Header variant="h2">{[t("tuning.definition"), name].filter(Boolean).join(" · ")}</Header>}>
        <SpaceBetween size="l">
          <KeyValuePairs
            columns={3}
            items={[
              algorithm?.AlgorithmName === undefined
                ? { label: t("form.image"), value: algorithm?.TrainingImage ?? "–" }
                : { label: t("form.resource"), value: algorithm.AlgorithmName },
              { label: t("form.role"), value: definition.RoleArn ?? "–" },
              { label: t("job.instances"), value: (types ?? instanceGroups(definition.ResourceConfig ?? choices)).map((group) => t("job.instancesAre", group)).join(", ") },
              ...present(t("form.maxRuntime"), definition.StoppingCondition?.MaxRuntimeInSeconds, duration),
              { label: t("form.outputPath"), value: definition.OutputDataConfig?.S3OutputPath ?? "–" },
              ...present(t("form.checkpoint"), definition.CheckpointConfig?.S3Uri, (uri) => uri),
              ...(definition.InputDataConfig ?? []).map((channel) => ({
                label: t("form.channel", { name: channel.ChannelName ?? "" }),
                value: channel.DataSource?.S3DataSource?.S3Uri,
              })),
            ]}
          />
          <NetworkOf job={definition} />
        </SpaceBetween>
      </Container>
      <Table
        header={<Header variant="h2">{t("tuning.ranges")}</Header>}
        ariaLabels={{ tableLabel: t("tuning.ranges") }}
        items={searched}
        trackBy="Name"
        columnDefinitions={[
          { id: "name", header: t("tuning.hyperparameter"), isRowHeader: true, cell: ({ Name }) => Name },
          { id: "kind", header: t("tuning.kind"), cell: ({ kind }) => kind },
          {
            id: "values",
            header: t("tuning.values"),
            cell: (range) =>
              "MinValue" in range ? `${range.MinValue} – ${range.MaxValue}` : "Values" in range ? range.Values?.join(", ") : range.ValueHint,
          },
          { id: "scaling", header: t("tuning.scaling"), cell: (range) => ("MinValue" in range ? (range.ScalingType ?? "Auto") : "–") },
        ]}
        wrapLines
      />
      <Named title="form.hyperparameters" none="form.noHyperparameters" items={Object.entries(definition.StaticHyperParameters ?? {})} />
    </SpaceBetween>
  );
}

function Best({ job }: { job: DescribeHyperParameterTuningJobResponse }) {
  const { t, measured } = useWords();
  const best = job.BestTrainingJob;
  const metric = best?.FinalHyperParameterTuningJobObjectiveMetric;
  return (
    <Container header={<Header variant="h2">{t("tuning.best")}</Header>}>
      {best === undefined ? t("tuning.noBest") : (
        <KeyValuePairs
          columns={4}
          items={[
            { label: t("jobs.name"), value: <Link href={`#/jobs/${best.TrainingJobName}`}>{best.TrainingJobName}</Link> },
            { label: metric?.MetricName ?? t("tuning.objective"), value: metric?.Value === undefined ? "–" : measured(metric.Value) },
            ...Object.entries(best.TunedHyperParameters ?? {}).map(([label, value]) => ({ label, value })),
          ]}
        />
      )}
    </Container>
  );
}

const WIDTH = 900;
const HEIGHT = 300;

/** Each training job as a line over all hyperparameters to the objective. */
function Parallel({ done, objective, best }: { done: Trial[]; objective: string; best: string | undefined }) {
  const { t, measured } = useWords();
  const [pointed, setPointed] = useState<string>();
  const all = axes(done, objective);
  const x = (index: number) => 90 + (index * (WIDTH - 180)) / Math.max(all.length - 1, 1);
  const y = (place: number) => HEIGHT - 50 - place * (HEIGHT - 100);
  const values = (trial: Trial) => all.map((axis, index) => (index === all.length - 1 ? String(trial.objective) : trial.tuned[axis.name]));
  return (
    <Container header={<Header variant="h2" description={t("tuning.parallelHint")}>{t("tuning.parallel")}</Header>}>
      <svg className="graph parallel" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img"
        aria-label={t("tuning.parallelIs", { count: done.length, axes: all.map((axis) => axis.name).join(", ") })}>
        {done.map((trial) => {
          const points = values(trial).flatMap((value, index) => (value === undefined ? [] : `${x(index)},${y(all[index]!.place(value))}`));
          return (
            <polyline key={trial.name} points={points.join(" ")} className={trial.name === (pointed ?? best) ? "best" : ""}
              onMouseEnter={() => setPointed(trial.name)} onMouseLeave={() => setPointed(undefined)} />
          );
        })}
        {all.map((axis, index) => (
          <g key={axis.name} textAnchor="middle">
            <line className="axis" x1={x(index)} x2={x(index)} y1={y(0)} y2={y(1)} />
            <text x={x(index)} y={20}>{axis.name}</text>
            <text x={x(index)} y={y(1) - 6} className="address">{axis.high}</text>
            <text x={x(index)} y={y(0) + 16} className="address">{axis.low}</text>
          </g>
        ))}
      </svg>
      {done.filter((trial) => trial.name === (pointed ?? best)).map((trial) => (
        <div key={trial.name} className="pointed">{`${trial.name}: ${objective} = ${measured(trial.objective)}`}</div>
      ))}
    </Container>
  );
}

/** The objective against each hyperparameter that has numbers for values. */
function Scatters({ done, objective }: { done: Trial[]; objective: string }) {
  const { measured } = useWords();
  const names = [...new Set(done.flatMap((trial) => Object.keys(trial.tuned)))].sort();
  const numeric = names.filter((name) => done.every((trial) => Number.isFinite(Number(trial.tuned[name] ?? Number.NaN))));
  if (numeric.length === 0) return null;
  return (
    <Grid gridDefinition={numeric.map(() => ({ colspan: { default: 12, s: 6 } }))}>
      {numeric.map((name) => (
        <Container key={name} header={<Header variant="h3">{`${objective} / ${name}`}</Header>}>
          <Scatter points={done.map((trial) => [Number(trial.tuned[name]), trial.objective])} name={name} objective={objective}
            format={(value) => measured(value, 4)} />
        </Container>
      ))}
    </Grid>
  );
}

function Scatter(props: { points: [number, number][]; name: string; objective: string; format: (value: number) => string }) {
  const { points, name, objective, format } = props;
  const span = (values: number[]) => [Math.min(...values), Math.max(...values)] as const;
  const [left, right] = span(points.map(([x]) => x));
  const [low, high] = span(points.map(([, y]) => y));
  const part = (value: number, from: number, to: number) => (to > from ? (value - from) / (to - from) : 0.5);
  return (
    <svg className="graph scatter" viewBox="0 0 400 220" role="img" aria-label={`${objective} / ${name}`}>
      <line className="axis" x1={80} x2={390} y1={180} y2={180} />
      <line className="axis" x1={80} x2={80} y1={20} y2={180} />
      {points.map(([x, y], index) => (
        <circle key={index} cx={95 + 275 * part(x, left, right)} cy={170 - 140 * part(y, low, high)} r={5}>
          <title>{`${name} = ${format(x)}, ${objective} = ${format(y)}`}</title>
        </circle>
      ))}
      <text x={95} y={200} textAnchor="middle" className="address">{format(left)}</text>
      <text x={370} y={200} textAnchor="middle" className="address">{format(right)}</text>
      <text x={74} y={174} textAnchor="end" className="address">{format(low)}</text>
      <text x={74} y={34} textAnchor="end" className="address">{format(high)}</text>
      <text x={232} y={212} textAnchor="middle">{name}</text>
    </svg>
  );
}

function Children({ items, objective }: { items: HyperParameterTrainingJobSummary[]; objective: string }) {
  const { t, number, measured, moment } = useWords();
  const value = (job: HyperParameterTrainingJobSummary) => job.FinalHyperParameterTuningJobObjectiveMetric?.Value;
  const [sort, setSort] = useState<{ by: "objective" | "created"; descending: boolean }>();
  const rank = (job: HyperParameterTrainingJobSummary) => (sort?.by === "objective" ? value(job) : job.CreationTime?.getTime());
  // Those that have no value yet are last, however the others are sorted.
  const sorted =
    sort === undefined
      ? items
      : [...items].sort((one, other) => {
          const [left, right] = [rank(one), rank(other)];
          if (left === undefined || right === undefined) return Number(left === undefined) - Number(right === undefined);
          return sort.descending ? right - left : left - right;
        });
  return (
    <Table
      header={<Header variant="h2" counter={`(${number(items.length)})`}>{t("jobs.title")}</Header>}
      ariaLabels={{ tableLabel: t("jobs.title") }}
      items={sorted}
      sortingColumn={sort && { sortingField: sort.by }}
      sortingDescending={sort?.descending}
      onSortingChange={({ detail }) =>
        setSort({ by: detail.sortingColumn.sortingField as "objective" | "created", descending: detail.isDescending ?? false })
      }
      trackBy="TrainingJobName"
      empty={t("tuning.noChildren")}
      columnDefinitions={[
        {
          id: "name",
          header: t("jobs.name"),
          isRowHeader: true,
          cell: (job) => <Link href={`#/jobs/${job.TrainingJobName}`}>{job.TrainingJobName}</Link>,
        },
        { id: "status", header: t("jobs.status"), cell: (job) => <Status status={job.TrainingJobStatus} /> },
        { id: "objective", header: objective, sortingField: "objective", cell: (job) => (value(job) === undefined ? "–" : measured(value(job)!)) },
        {
          id: "tuned",
          header: t("form.hyperparameters"),
          cell: (job) => Object.entries(job.TunedHyperParameters ?? {}).map(([name, text]) => `${name} = ${text}`).join(", "),
        },
        { id: "created", header: t("jobs.created"), sortingField: "created", cell: (job) => moment(job.CreationTime) },
      ]}
    />
  );
}
