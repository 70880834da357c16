import {
  CreateHyperParameterTuningJobCommand,
  DescribeHyperParameterTuningJobCommand,
  paginateListHyperParameterTuningJobs,
} from "@aws-sdk/client-sagemaker";
import Button from "@cloudscape-design/components/button";
import Checkbox from "@cloudscape-design/components/checkbox";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Grid from "@cloudscape-design/components/grid";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import Multiselect from "@cloudscape-design/components/multiselect";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Textarea from "@cloudscape-design/components/textarea";
import { useEffect, useState } from "react";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws, useIdentity } from "../app/session";
import type { Clients } from "../aws/clients";
import { surroundings } from "../aws/copies";
import { wording } from "../aws/errors";
import { CreationForm } from "../components/CreationForm";
import { Foldable } from "../components/Foldable";
import {
  changed,
  EnvironmentAndTags,
  Hyperparameters,
  InputData,
  JobSettings,
  Output,
  Resources,
  TextField,
  useFault,
} from "../components/form";
import { Network } from "../components/Network";
import { Page } from "../components/Page";
import { isOver } from "../components/Status";
import { useWords } from "../i18n";
import { tuningJobCode } from "../model/code";
import { algorithmIn, CHANNEL, type Draft, emptyDraft, type Faults } from "../model/draft";
import {
  emptyTuning,
  fromTuning,
  MOST_PARENTS,
  proposed,
  type Range,
  SCALINGS,
  searched,
  STRATEGIES,
  toTuningRequest,
  type Tuning,
  tuningFaults,
  WARM_STARTS,
} from "../model/tuning";

interface Form {
  draft: Draft;
  tuning: Tuning;
}

/** The form of a new tuning job; as a copy of the job `original`, where one is named. */
export default function CreateTuningJob({ original }: { original?: string }) {
  const { t } = useWords();
  const aws = useAws();
  const { account } = useIdentity();
  const notices = useNotices();
  const [form, setForm] = useState<Form | undefined>(original === undefined ? empty(account, aws.home) : undefined);
  useEffect(() => {
    if (original === undefined) return;
    cloned(aws, original, account, notices.failed).then(
      (copy) => {
        if (copy === undefined) notices.failed(new Error(t("tuning.several")));
        setForm(copy ?? empty(account, aws.home));
      },
      (error: unknown) => {
        notices.failed(error);
        setForm(empty(account, aws.home));
      },
    );
  }, [aws, original]);
  if (form === undefined) return <Spinner size="large" />;
  const { draft, tuning } = form;
  const setDraft = (change: Partial<Draft>) =>
    setForm((before) => {
      const next = { ...before!.draft, ...change };
      // Another algorithm has other objectives and hyperparameters.
      const other = change.source !== undefined ? searched(algorithmIn(next)) : {};
      return { draft: next, tuning: { ...before!.tuning, ...other } };
    });
  const setTuning = (change: Partial<Tuning>) => setForm((before) => ({ ...before!, tuning: { ...before!.tuning, ...change } }));
  return (
    <Page title={t("tuning.create")} trail={[[t("tunings.title"), "#/tuning"]]} description={t("tunings.description")}>
      <CreationForm
        entered={form}
        faults={tuningFaults(draft, tuning)}
        create={() => aws.sagemaker.send(new CreateHyperParameterTuningJobCommand(toTuningRequest(draft, tuning)))}
        verb={t("tuning.create")}
        created={t("tuning.created", { name: draft.name })}
        to={`/tuning/${draft.name}`}
        back="/tuning"
        code={() => tuningJobCode(toTuningRequest(draft, tuning))}
      >
        {(faults) => {
          const section = { draft, faults, set: setDraft };
          const parts = { draft, tuning, faults, set: setTuning };
          return (
            <SpaceBetween size="l">
              <JobSettings {...section} name="form.jobName" />
              <Settings {...parts} />
              <Ranges {...parts} />
              <Hyperparameters {...section} />
              <Resources {...section} />
              <Network {...section} />
              <InputData {...section} />
              <Output {...section} />
              <WarmStart {...parts} />
              <EnvironmentAndTags {...section} />
            </SpaceBetween>
          );
        }}
      </CreationForm>
    </Page>
  );
}

function empty(account: string, region: string): Form {
  const draft = emptyDraft(account, region);
  const channels = [CHANNEL, { ...CHANNEL, name: "validation", distribution: "FullyReplicated" as const }];
  return { draft: { ...draft, channels }, tuning: emptyTuning(algorithmIn(draft)) };
}

/** A copy of a tuning job; undefined for one with several definitions of training jobs, which the form does not have. */
async function cloned(aws: Clients, name: string, account: string, failed: (error: unknown) => void): Promise<Form | undefined> {
  const job = await aws.sagemaker.send(new DescribeHyperParameterTuningJobCommand({ HyperParameterTuningJobName: name }));
  const definition = job.TrainingJobDefinition;
  if (definition === undefined) return undefined;
  const { vpc, tags, resource } = await surroundings(aws, {
    arn: job.HyperParameterTuningJobArn,
    subnets: definition.VpcConfig?.Subnets,
    algorithm: definition.AlgorithmSpecification?.AlgorithmName,
  }, failed);
  return fromTuning(job, vpc, tags, account, aws.home, resource);
}

interface Parts {
  draft: Draft;
  tuning: Tuning;
  faults: Faults;
  set: (change: Partial<Tuning>) => void;
}

/** Strategy, objective and limits. */
function Settings({ draft, tuning, faults, set }: Parts) {
  const { t } = useWords();
  const fault = useFault();
  const objectives = algorithmIn(draft)?.objectives;
  return (
    <Container header={<Header variant="h2">{t("tuning.settings")}</Header>}>
      <SpaceBetween size="l">
        <ColumnLayout columns={3}>
          <FormField label={t("tuning.strategy")}>
            <Select
              selectedOption={{ value: tuning.strategy, label: tuning.strategy }}
              options={STRATEGIES.map((value) => ({ value, label: value }))}
              onChange={({ detail }) => set({ strategy: detail.selectedOption.value as Tuning["strategy"] })}
            />
          </FormField>
          <FormField label={t("tuning.objective")} errorText={fault(faults.objective)}>
            {objectives === undefined || objectives.length === 0 ? (
              <Input value={tuning.objective} onChange={({ detail }) => set({ objective: detail.value })} />
            ) : (
              <Select
                selectedOption={{ value: tuning.objective, label: tuning.objective }}
                options={objectives.map(({ name }) => ({ value: name, label: name }))}
                filteringType="auto"
                onChange={({ detail }) => {
                  const objective = objectives.find(({ name }) => name === detail.selectedOption.value)!;
                  set({ objective: objective.name, direction: objective.type });
                }}
              />
            )}
          </FormField>
          <FormField label={t("tuning.direction")}>
            <Select
              selectedOption={{ value: tuning.direction, label: t(`tuning.${tuning.direction}`) }}
              options={(["Maximize", "Minimize"] as const).map((value) => ({ value, label: t(`tuning.${value}`) }))}
              onChange={({ detail }) => set({ direction: detail.selectedOption.value as Tuning["direction"] })}
            />
          </FormField>
          <TextField label="tuning.maxJobs" numeric value={tuning.maxJobs} fault={faults.maxJobs} onChange={(maxJobs) => set({ maxJobs })} />
          <TextField label="tuning.maxParallel" numeric value={tuning.maxParallel} fault={faults.maxParallel}
            onChange={(maxParallel) => set({ maxParallel })} />
          <TextField label="tuning.maxRuntime" hint="tuning.maxRuntimeHint" optional numeric value={tuning.maxRuntime}
            fault={faults["tuning.maxRuntime"]} onChange={(maxRuntime) => set({ maxRuntime })} />
          {tuning.strategy === "Hyperband" && (
            <TextField label="tuning.minResource" hint="tuning.resourceHint" numeric value={tuning.minResource} fault={faults.minResource}
              onChange={(minResource) => set({ minResource })} />
          )}
          {tuning.strategy === "Hyperband" && (
            <TextField label="tuning.maxResource" hint="tuning.resourceHint" numeric value={tuning.maxResource} fault={faults.maxResource}
              onChange={(maxResource) => set({ maxResource })} />
          )}
          <TextField label="tuning.seed" optional numeric value={tuning.seed} fault={faults.seed} onChange={(seed) => set({ seed })} />
        </ColumnLayout>
        {tuning.strategy !== "Hyperband" && (
          <Checkbox checked={tuning.earlyStopping} description={t("tuning.earlyStoppingHint")}
            onChange={({ detail }) => set({ earlyStopping: detail.checked })}>
            {t("tuning.earlyStopping")}
          </Checkbox>
        )}
        <Checkbox checked={tuning.autotune} description={t("tuning.autotuneHint")} onChange={({ detail }) => set({ autotune: detail.checked })}>
          {t("tuning.autotune")}
        </Checkbox>
        <Foldable faulty={"target" in faults || "notImproving" in faults}
          headerText={t("tuning.completion")} headerDescription={t("tuning.completionHint")}
          defaultExpanded={tuning.target !== "" || tuning.notImproving !== "" || tuning.convergence}>
          <SpaceBetween size="l">
            <ColumnLayout columns={2}>
              <TextField label="tuning.target" optional value={tuning.target} fault={faults.target} onChange={(target) => set({ target })} />
              <TextField label="tuning.notImproving" optional numeric value={tuning.notImproving} fault={faults.notImproving}
                onChange={(notImproving) => set({ notImproving })} />
            </ColumnLayout>
            <Checkbox checked={tuning.convergence} onChange={({ detail }) => set({ convergence: detail.checked })}>
              {t("tuning.convergence")}
            </Checkbox>
          </SpaceBetween>
        </Foldable>
      </SpaceBetween>
    </Container>
  );
}

/** Whether a range is one text: its values, or the value that it is chosen around. */
const single = (range: Range) => range.kind === "Categorical" || range.kind === "Auto";

/** How many of twelve columns a field has on a narrow page, and on others. */
const column = (narrow: number, wide: number) => ({ colspan: { default: narrow, xs: wide } });

/** The hyperparameters that are tuned, and their ranges. */
function Ranges({ draft, tuning, faults, set }: Parts) {
  const { t } = useWords();
  const fault = useFault();
  const known = algorithmIn(draft)?.hyperparameters;
  const free = (known ?? []).filter(({ name, tune, kind }) => (tune || kind === "Categorical") && tuning.ranges.every((range) => range.name !== name));
  const change = (index: number, part: Partial<Range>) => set({ ranges: changed(tuning.ranges, index, part) });
  return (
    <Container
      header={
        <Header variant="h2" description={t("tuning.rangesHint")}
          actions={
            <Button formAction="none"
              onClick={() => set({ ranges: [...tuning.ranges, proposed(free[0]?.name ?? "", free[0])] })}>
              {t("tuning.addRange")}
            </Button>
          }>
          {t("tuning.ranges")}
        </Header>
      }
    >
      <FormField stretch errorText={fault(faults.ranges)}>
        <SpaceBetween size="l">
          {tuning.ranges.map((range, index) => (
            <Grid key={index} gridDefinition={[column(12, 3), column(12, 2), ...(single(range) ? [column(12, 6)] : [column(6, 2), column(6, 2), column(12, 2)]), column(12, 1)]}>
              <FormField label={t("tuning.hyperparameter")} errorText={fault(faults[`ranges.${index}`])}>
                {known === undefined || known.length === 0 ? (
                  <Input value={range.name} onChange={({ detail }) => change(index, { name: detail.value })} />
                ) : (
                  <Select
                    selectedOption={{ value: range.name, label: range.name }}
                    options={[...known.filter(({ name }) => name === range.name), ...free].map(({ name }) => ({ value: name, label: name }))}
                    onChange={({ detail }) => {
                      const name = detail.selectedOption.value!;
                      change(index, proposed(name, known.find((parameter) => parameter.name === name)));
                    }}
                  />
                )}
              </FormField>
              <FormField label={t("tuning.kind")}>
                <Select
                  selectedOption={{ value: range.kind, label: range.kind }}
                  options={(["Continuous", "Integer", "Categorical", ...(tuning.autotune ? (["Auto"] as const) : [])] as const).map((value) => ({ value, label: value }))}
                  onChange={({ detail }) => change(index, { kind: detail.selectedOption.value as Range["kind"] })}
                />
              </FormField>
              {range.kind === "Categorical" ? (
                <FormField label={t("tuning.values")} constraintText={t("tuning.valuesHint")}>
                  <Textarea value={range.values} rows={3} spellcheck={false} onChange={({ detail }) => change(index, { values: detail.value })} />
                </FormField>
              ) : (
                <FormField label={t(range.kind === "Auto" ? "tuning.valueHint" : "tuning.min")}>
                  <Input value={range.min} inputMode="decimal" onChange={({ detail }) => change(index, { min: detail.value })} />
                </FormField>
              )}
              {!single(range) && (
                <FormField label={t("tuning.max")}>
                  <Input value={range.max} inputMode="decimal" onChange={({ detail }) => change(index, { max: detail.value })} />
                </FormField>
              )}
              {!single(range) && (
                <FormField label={t("tuning.scaling")}>
                  <Select
                    selectedOption={{ value: range.scaling, label: range.scaling }}
                    options={SCALINGS.map((value) => ({ value, label: value }))}
                    onChange={({ detail }) => change(index, { scaling: detail.selectedOption.value as Range["scaling"] })}
                  />
                </FormField>
              )}
              <Button formAction="none" iconName="remove" variant="icon" ariaLabel={t("tuning.removeRange", { name: range.name })}
                onClick={() => set({ ranges: tuning.ranges.filter((_, other) => other !== index) })} />
            </Grid>
          ))}
        </SpaceBetween>
      </FormField>
    </Container>
  );
}

/** Earlier tuning jobs that this one learns from. */
function WarmStart({ tuning, set }: Parts) {
  const { t } = useWords();
  const aws = useAws();
  const { value: found = [], error, loading } = usePoll(async () => {
    const ended: string[] = [];
    for await (const page of paginateListHyperParameterTuningJobs({ client: aws.sagemaker }, { MaxResults: 100 })) {
      const jobs = (page.HyperParameterTuningJobSummaries ?? []).filter((job) => isOver(job.HyperParameterTuningJobStatus));
      ended.push(...jobs.map((job) => job.HyperParameterTuningJobName!));
    }
    return ended;
  }, [aws]);
  return (
    <ExpandableSection variant="container" defaultExpanded={tuning.parents.length > 0}
      headerText={<>{t("tuning.warm")} <i>– {t("form.optional")}</i></>} headerDescription={t("tuning.warmHint")}>
      <ColumnLayout columns={2}>
        <FormField label={t("tuning.parents")} constraintText={t("tuning.parentsHint", { most: MOST_PARENTS })}
          errorText={error === undefined ? undefined : wording(error)}>
          <Multiselect
            selectedOptions={tuning.parents.map((value) => ({ value, label: value }))}
            options={found.map((value) => ({ value, label: value, disabled: tuning.parents.length >= MOST_PARENTS && !tuning.parents.includes(value) }))}
            placeholder={t("tuning.chooseParents")}
            empty={t("tuning.noParents")}
            filteringType="auto"
            virtualScroll
            statusType={loading ? "loading" : "finished"}
            onChange={({ detail }) => set({ parents: detail.selectedOptions.map((option) => option.value!) })}
          />
        </FormField>
        <FormField label={t("tuning.warmType")}>
          <Select
            selectedOption={{ value: tuning.warmStart, label: t(`tuning.${tuning.warmStart}`) }}
            options={WARM_STARTS.map((value) => ({ value, label: t(`tuning.${value}`), description: t(`tuning.${value}Hint`) }))}
            onChange={({ detail }) => set({ warmStart: detail.selectedOption.value as Tuning["warmStart"] })}
          />
        </FormField>
      </ColumnLayout>
    </ExpandableSection>
  );
}
