/** The cost of encryption in time: this job beside the latest one that did the same without (or with) it. */
import {
  type DescribeTrainingJobResponse,
  Operator,
  ResourceType,
  SearchCommand,
  type TrainingJob,
} from "@aws-sdk/client-sagemaker";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import { useHashLocation } from "wouter/use-hash-location";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { useWords } from "../i18n";
import { cost, sameWork } from "../model/cost";

export function Cost({ job }: { job: DescribeTrainingJobResponse }) {
  const { t, duration, number } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const { value: twin, loading } = usePoll(() => findTwin(aws, job), [aws, job.TrainingJobName, job.TrainingJobStatus]);
  const encrypted = job.EnableInterContainerTrafficEncryption ?? false;
  const [secret, clear] = encrypted ? [job, twin] : [twin, job];
  const found = secret && clear && cost(secret, clear);
  return (
    <Container header={<Header variant="h2" description={t("cost.hint")}>{t("cost.title")}</Header>}>
      {found === undefined ? (
        loading ? t("common.loading") : (
          <>
            <Box variant="p">{t(encrypted ? "cost.noTwin" : "cost.noSecretTwin")}</Box>
            {encrypted && (
              <Button onClick={() => navigate(`/create-job/${job.TrainingJobName}/clear`)}>{t("cost.compare")}</Button>
            )}
          </>
        )
      ) : (
        <KeyValuePairs
          columns={3}
          items={[
            { label: t("cost.encrypted"), value: <JobTime name={secret!.TrainingJobName!} text={duration(found.encrypted)} /> },
            { label: t("cost.clear"), value: <JobTime name={clear!.TrainingJobName!} text={duration(found.clear)} /> },
            {
              label: t("cost.difference"),
              value: t("cost.is", {
                seconds: `${found.seconds > 0 ? "+" : ""}${number(found.seconds)}`,
                percent: `${found.percent > 0 ? "+" : ""}${number(found.percent, 0)}`,
              }),
            },
          ]}
        />
      )}
    </Container>
  );
}

function JobTime({ name, text }: { name: string; text: string }) {
  return <>{text} · <Link href={`#/jobs/${name}`}>{name}</Link></>;
}

/** The latest completed job with the same work and the opposite flag. */
async function findTwin(aws: Clients, job: DescribeTrainingJobResponse): Promise<TrainingJob | undefined> {
  const equals = (Name: string, Value: string) => ({ Name, Operator: Operator.EQUALS, Value });
  const answer = await aws.sagemaker.send(
    new SearchCommand({
      Resource: ResourceType.TRAINING_JOB,
      SortBy: "CreationTime",
      SortOrder: "Descending",
      MaxResults: 50,
      SearchExpression: {
        Filters: [
          equals("TrainingJobStatus", "Completed"),
          equals("EnableInterContainerTrafficEncryption", String(!job.EnableInterContainerTrafficEncryption)),
          equals("ResourceConfig.InstanceCount", String(job.ResourceConfig?.InstanceCount)),
          equals("ResourceConfig.InstanceType", String(job.ResourceConfig?.InstanceType)),
        ],
      },
    }),
  );
  return (answer.Results ?? []).flatMap((result) => result.TrainingJob ?? []).find((other) => sameWork(job, other));
}
