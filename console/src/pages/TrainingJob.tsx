import {
  DescribeTrainingJobCommand,
  type DescribeTrainingJobResponse,
  type WarmPoolStatus,
} from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Badge from "@cloudscape-design/components/badge";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import Tabs from "@cloudscape-design/components/tabs";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useRemembered } from "../app/remembered";
import { useAws } from "../app/session";
import { tagsOf } from "../aws/copies";
import { wording } from "../aws/errors";
import { CodeModal } from "../components/Code";
import { Arn, Named, NetworkOf, present } from "../components/Described";
import { Encryption } from "../components/Encryption";
import { Logs } from "../components/Logs";
import { Metrics } from "../components/Metrics";
import { Page } from "../components/Page";
import { isOver, Status } from "../components/Status";
import { Tags } from "../components/Tags";
import { Traffic } from "../components/Traffic";
import { useWords } from "../i18n";
import { said } from "../i18n/said";
import { type Code, trainingJobCode } from "../model/code";
import { savings } from "../model/cost";
import { instanceGroups } from "../model/instances";
import { requestOf } from "../model/request";
import { DeleteJob, StopJob } from "./TrainingJobs";

const LIVE_MILLISECONDS = 1500;

export default function TrainingJob({ name }: { name: string }) {
  const { t } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const [tab, setTab] = useRemembered("tab", "overview");
  const [asking, setAsking] = useState<"stop" | "delete">();
  const notices = useNotices();
  const [code, setCode] = useState<Code[]>();
  const { value: job, error, refresh } = usePoll(
    () => aws.sagemaker.send(new DescribeTrainingJobCommand({ TrainingJobName: name })),
    [aws, name],
    (found) => (isOver(found.TrainingJobStatus) ? undefined : LIVE_MILLISECONDS),
  );
  const trail: [string, string][] = [[t("jobs.title"), "#/jobs"]];
  if (job === undefined) {
    return (
      <Page title={name} trail={trail}>
        {error === undefined ? t("common.loading") : (
          <Alert type="error" action={<Button href="#/jobs">{t("jobs.back")}</Button>}>{wording(error)}</Alert>
        )}
      </Page>
    );
  }
  const over = isOver(job.TrainingJobStatus);
  const showCode = async () => {
    // Who may not list tags sees the code without them, and why.
    const tags = await tagsOf(aws, job.TrainingJobArn).catch((failure: unknown) => {
      notices.failed(failure);
      return [];
    });
    setCode(trainingJobCode(requestOf(job, tags)));
  };
  return (
    <Page
      title={name}
      trail={trail}
      actions={
        <SpaceBetween direction="horizontal" size="xs">
          <Button iconName="refresh" ariaLabel={t("common.refresh")} onClick={refresh} />
          <Button disabled={job.TrainingJobStatus !== "InProgress"} onClick={() => setAsking("stop")}>{t("jobs.stop")}</Button>
          <Button disabled={!over} onClick={() => setAsking("delete")}>{t("common.delete")}</Button>
          <Button onClick={() => void showCode()}>{t("code.view")}</Button>
          <Button onClick={() => navigate(`/create-job/${name}`)}>{t("jobs.clone")}</Button>
        </SpaceBetween>
      }
    >
      {error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(error)}</Alert>}
      {job.FailureReason && <Alert type="error" header={t("job.failed")}><span className="whole">{job.FailureReason}</span></Alert>}
      <Traffic job={job} />
      <Summary job={job} />
      <Tabs
        ariaLabel={t("job.parts")}
        activeTabId={tab}
        onChange={({ detail }) => setTab(detail.activeTabId)}
        tabs={[
          { id: "overview", label: t("job.overview"), content: <Overview job={job} /> },
          { id: "metrics", label: t("job.metrics"), content: <Metrics job={job} over={over} /> },
          { id: "logs", label: t("job.logs"), content: <Logs name={name} over={over} /> },
          { id: "encryption", label: t("job.encryption"), content: <Encryption job={job} /> },
          { id: "tags", label: t("job.tags"), content: <Tags arn={job.TrainingJobArn!} /> },
        ]}
      />
      {asking === "stop" && <StopJob name={name} close={() => { setAsking(undefined); refresh(); }} />}
      {asking === "delete" && <DeleteJob name={name} close={() => setAsking(undefined)} done={() => navigate("/jobs")} />}
      {code !== undefined && <CodeModal code={code} close={() => setCode(undefined)} />}
    </Page>
  );
}

function Summary({ job }: { job: DescribeTrainingJobResponse }) {
  const { t, number, moment, duration } = useWords();
  const encrypted = job.EnableInterContainerTrafficEncryption;
  const tuning = job.TuningJobArn?.split("/").pop();
  return (
    <Container header={<Header variant="h2">{t("job.summary")}</Header>}>
      <KeyValuePairs
        columns={3}
        items={[
          { label: t("jobs.status"), value: <Statuses job={job} /> },
          { label: t("jobs.created"), value: moment(job.CreationTime) },
          {
            label: t("job.trainingTime"),
            value: job.TrainingTimeInSeconds === undefined ? "–" : duration(job.TrainingTimeInSeconds),
          },
          ...present(t("job.billable"), job.BillableTimeInSeconds, duration),
          ...present(t("job.savings"), savings(job), (percent) => t("unit.percent", { count: number(percent, 0) })),
          ...present(t("job.tuning"), tuning, (parent) => <Link href={`#/tuning/${parent}`}>{parent}</Link>),
          ...present(t("job.warmPool"), job.WarmPoolStatus, (status) => <WarmPool status={status} />),
          {
            label: t("job.encryptionIs"),
            value: <Badge color={encrypted ? "green" : "grey"}>{t(encrypted ? "job.on" : "job.off")}</Badge>,
          },
          {
            label: t("job.instances"),
            value: instanceGroups(job.ResourceConfig).map((group) => t("job.instancesAre", group)).join(", "),
          },
          { label: t("job.arn"), value: <Arn arn={job.TrainingJobArn} /> },
        ]}
      />
    </Container>
  );
}

/** Where the instances of a job are kept for others like it. */
function WarmPool({ status }: { status: WarmPoolStatus }) {
  const { t, duration } = useWords();
  const { ResourceRetainedBillableTimeInSeconds: kept, ReusedByJob: next } = status;
  return (
    <>
      {t(`warm.${status.Status!}`)}
      {kept !== undefined && <>{" · "}{duration(kept)}</>}
      {next !== undefined && <>{" · "}<Link href={`#/jobs/${next}`}>{next}</Link></>}
    </>
  );
}

/** The status, and what the job is about, where that is something else. */
function Statuses({ job }: { job: DescribeTrainingJobResponse }) {
  const { TrainingJobStatus: status, SecondaryStatus: secondary } = job;
  return (
    <SpaceBetween direction="horizontal" size="xs">
      <Status status={status} />
      {secondary !== undefined && secondary !== status && <Status status={secondary} />}
    </SpaceBetween>
  );
}

function Overview({ job }: { job: DescribeTrainingJobResponse }) {
  const words = useWords();
  const { t, moment, duration } = words;
  const transitions = job.SecondaryStatusTransitions ?? [];
  const command = (words: string[]) => <Box variant="code">{words.join(" ")}</Box>;
  const environment = Object.entries(job.Environment ?? {});
  return (
    <SpaceBetween size="l">
      <Table
        header={<Header variant="h2">{t("job.transitions")}</Header>}
        ariaLabels={{ tableLabel: t("job.transitions") }}
        items={transitions}
        columnDefinitions={[
          {
            id: "status",
            header: t("jobs.status"),
            minWidth: 190,
            isRowHeader: true,
            cell: (each) => <Status status={each.Status} past={each.EndTime !== undefined} />,
          },
          { id: "start", header: t("job.start"), minWidth: 220, cell: (each) => moment(each.StartTime) },
          {
            id: "took",
            header: t("job.took"),
            minWidth: 130,
            cell: (each) =>
              each.EndTime === undefined ? "…" : duration((each.EndTime.getTime() - each.StartTime!.getTime()) / 1000),
          },
          { id: "message", header: t("job.message"), minWidth: 240, cell: (each) => said(words, each.StatusMessage ?? "") },
        ]}
        wrapLines
      />
      <ColumnLayout columns={2}>
        <Container fitHeight header={<Header variant="h2">{t("network.title")}</Header>}>
          <NetworkOf job={job} />
        </Container>
        <Container fitHeight header={<Header variant="h2">{t("job.artifacts")}</Header>}>
          <Artifacts job={job} />
        </Container>
      </ColumnLayout>
      <ColumnLayout columns={2}>
        <Container fitHeight header={<Header variant="h2">{t("form.input")}</Header>}>
          {(job.InputDataConfig ?? []).length === 0 ? t("form.noChannels") : (
            <KeyValuePairs
              items={(job.InputDataConfig ?? []).map((channel) => ({
                label: channel.ChannelName ?? "",
                value: (
                  <>
                    {channel.DataSource?.S3DataSource?.S3Uri}
                    <Box color="text-body-secondary" fontSize="body-s">
                      {[channel.DataSource?.S3DataSource?.S3DataDistributionType, channel.ContentType].filter(Boolean).join(" · ")}
                    </Box>
                  </>
                ),
              }))}
            />
          )}
        </Container>
        <Container fitHeight header={<Header variant="h2">{t("job.algorithm")}</Header>}>
          <KeyValuePairs
            columns={2}
            items={[
              job.AlgorithmSpecification?.AlgorithmName === undefined
                ? { label: t("form.image"), value: job.AlgorithmSpecification?.TrainingImage ?? "–" }
                : { label: t("form.resource"), value: job.AlgorithmSpecification.AlgorithmName },
              { label: t("form.role"), value: job.RoleArn ?? "–" },
              { label: t("form.maxRuntime"), value: duration(job.StoppingCondition?.MaxRuntimeInSeconds ?? 0) },
              ...present(t("form.maxPending"), job.StoppingCondition?.MaxPendingTimeInSeconds, duration),
              ...present(t("job.spot"), job.EnableManagedSpotTraining || undefined, () => t("job.on")),
              ...present(t("form.maxWait"), job.StoppingCondition?.MaxWaitTimeInSeconds, duration),
              { label: t("form.volume"), value: String(job.ResourceConfig?.VolumeSizeInGB ?? "–") },
              ...present(t("form.volumeKmsKey"), job.ResourceConfig?.VolumeKmsKeyId, (id) => id),
              ...present(t("form.keepAlive"), job.ResourceConfig?.KeepAlivePeriodInSeconds, duration),
              ...present(t("form.retries"), job.RetryStrategy?.MaximumRetryAttempts, String),
              ...present(t("form.entrypoint"), job.AlgorithmSpecification?.ContainerEntrypoint, command),
              ...present(t("form.arguments"), job.AlgorithmSpecification?.ContainerArguments, command),
            ]}
          />
        </Container>
      </ColumnLayout>
      <Named title="form.hyperparameters" none="form.noHyperparameters" items={Object.entries(job.HyperParameters ?? {})} />
      {environment.length > 0 && <Named title="form.environment" none="form.noVariables" items={environment} />}
    </SpaceBetween>
  );
}

function Artifacts({ job }: { job: DescribeTrainingJobResponse }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const model = job.ModelArtifacts?.S3ModelArtifacts;
  const key = job.OutputDataConfig?.KmsKeyId;
  const download = async () => {
    try {
      // In a tab of its own, which a download closes: what S3 refuses does not take the console away.
      window.open(await aws.download(model!), "_blank", "noopener");
    } catch (error) {
      notices.failed(error);
    }
  };
  return (
    <SpaceBetween size="m">
      <KeyValuePairs
        items={[
          { label: t("job.model"), value: model ?? t("job.noModel") },
          { label: t("form.outputPath"), value: job.OutputDataConfig?.S3OutputPath ?? "–" },
          ...present(t("form.checkpoint"), job.CheckpointConfig?.S3Uri, (uri) => uri),
          ...present(t("form.kmsKey"), key || undefined, (id) => id),
        ]}
      />
      {key && model !== undefined && <Box>{t("job.ciphertext", { model })}</Box>}
      {!key && model?.endsWith(".tar.gz") && <Button iconName="download" onClick={() => void download()}>{t("job.download")}</Button>}
    </SpaceBetween>
  );
}
