/** The cost of encryption in time: this job beside the latest one that did the same without (or with) it. */
import {
  type DescribeTrainingJobResponse,
  Operator,
  ResourceType,
  SearchCommand,
  type TrainingJob,
} from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import { useHashLocation } from "wouter/use-hash-location";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { wording } from "../aws/errors";
import { type Key, useWords } from "../i18n";
import { costs, sameWork } from "../model/cost";

/** By how much encryption made the training longer, reckoned from what the data planes did. */
export interface Estimate {
  LikelySeconds: number;
  MostSeconds: number;
  BytesBetweenInstances: number;
}

export function Cost({ job, estimate }: { job: DescribeTrainingJobResponse; estimate?: Estimate }) {
  const { t, duration, number, bytes } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const { value: twin, error, loading } = usePoll(() => findTwin(aws, job), [aws, job.TrainingJobName, job.TrainingJobStatus]);
  const encrypted = job.EnableInterContainerTrafficEncryption ?? false;
  const [secret, clear] = encrypted ? [job, twin] : [twin, job];
  const signed = (value: number, digits?: number) => `${value > 0 ? "+" : ""}${number(value, digits)}`;
  const time = (seconds: number | undefined) => (seconds === undefined ? "–" : duration(seconds));
  const heading = (text: string, other: TrainingJob | undefined) =>
    other === undefined || other === job ? text : <>{text} · <Link href={`#/jobs/${other.TrainingJobName}`}>{other.TrainingJobName}</Link></>;
  return (
    <Table
      header={<Header variant="h2" description={t("cost.hint")}>{t("cost.title")}</Header>}
      ariaLabels={{ tableLabel: t("cost.title") }}
      items={costs(secret, clear)}
      trackBy="part"
      columnDefinitions={[
        { id: "part", header: t("cost.part"), isRowHeader: true, cell: ({ part }) => t(`cost.${part}` satisfies Key) },
        { id: "encrypted", header: heading(t("cost.encrypted"), secret), cell: (each) => time(each.encrypted) },
        { id: "clear", header: heading(t("cost.clear"), clear), cell: (each) => time(each.clear) },
        {
          id: "difference",
          header: t("cost.difference"),
          cell: ({ seconds, percent }) =>
            seconds === undefined
              ? t("cost.unknown")
              : percent === undefined
                ? t("unit.seconds", { count: signed(seconds, 1) })
                : t("cost.is", { seconds: signed(seconds, 1), percent: signed(percent, 0) }),
        },
      ]}
      footer={
        <SpaceBetween size="s">
          {estimate !== undefined && (
            <Box>
              {t("cost.estimated", {
                bytes: bytes(estimate.BytesBetweenInstances),
                likely: number(estimate.LikelySeconds, 1),
                most: number(estimate.MostSeconds, 1),
              })}
            </Box>
          )}
          <Box color="text-body-secondary">{t("cost.chance")}</Box>
          {error !== undefined && <Alert type="error">{wording(error)}</Alert>}
          {loading && error === undefined && <StatusIndicator type="loading">{t("common.loading")}</StatusIndicator>}
          {!loading && twin === undefined && <Box>{t(encrypted ? "cost.noTwin" : "cost.noSecretTwin")}</Box>}
          {!loading && twin === undefined && encrypted && (
            <Button onClick={() => navigate(`/create-job/${job.TrainingJobName}/clear`)}>{t("cost.compare")}</Button>
          )}
        </SpaceBetween>
      }
    />
  );
}

/** The latest completed job with the same work and the opposite flag. */
async function findTwin(aws: Clients, job: DescribeTrainingJobResponse): Promise<TrainingJob | undefined> {
  const equals = (Name: string, value: unknown) => (value === undefined ? [] : [{ Name, Operator: Operator.EQUALS, Value: String(value) }]);
  const answer = await aws.sagemaker.send(
    new SearchCommand({
      Resource: ResourceType.TRAINING_JOB,
      SortBy: "CreationTime",
      SortOrder: "Descending",
      MaxResults: 50,
      SearchExpression: {
        Filters: [
          ...equals("TrainingJobStatus", "Completed"),
          ...equals("EnableInterContainerTrafficEncryption", !job.EnableInterContainerTrafficEncryption),
          ...equals("ResourceConfig.InstanceCount", job.ResourceConfig?.InstanceCount),
          ...equals("ResourceConfig.InstanceType", job.ResourceConfig?.InstanceType),
        ],
      },
    }),
  );
  return (answer.Results ?? []).flatMap((result) => result.TrainingJob ?? []).find((other) => sameWork(job, other));
}
