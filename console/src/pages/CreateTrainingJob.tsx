import { CreateTrainingJobCommand, DescribeTrainingJobCommand } from "@aws-sdk/client-sagemaker";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { useEffect, useState } from "react";
import { useNotices } from "../app/notices";
import { useAws, useIdentity } from "../app/session";
import type { Clients } from "../aws/clients";
import { surroundings } from "../aws/copies";
import { CreationForm } from "../components/CreationForm";
import {
  EntryPoint,
  EnvironmentAndTags,
  Experiment,
  Hyperparameters,
  InputData,
  JobSettings,
  Output,
  Resources,
} from "../components/form";
import { Network } from "../components/Network";
import { Page } from "../components/Page";
import { useWords } from "../i18n";
import { trainingJobCode } from "../model/code";
import { type Draft, emptyDraft, faults as faultsOf, fromDescription, toRequest } from "../model/draft";

/** The form of a new job; as a copy of the job `original`, where one is named, and in the clear if `plain`. */
export default function CreateTrainingJob({ original, plain }: { original?: string; plain?: boolean }) {
  const { t } = useWords();
  const aws = useAws();
  const { account } = useIdentity();
  const notices = useNotices();
  const [draft, setDraft] = useState<Draft | undefined>(original === undefined ? emptyDraft(account, aws.home) : undefined);
  useEffect(() => {
    if (original === undefined) return;
    cloned(aws, original, account, notices.failed).then(
      (copy) => setDraft(plain ? { ...copy, encrypt: false, name: `${copy.name.slice(0, 57)}-clear` } : copy),
      (error: unknown) => {
        notices.failed(error);
        setDraft(emptyDraft(account, aws.home));
      },
    );
  }, [aws, original]);
  if (draft === undefined) return <Spinner size="large" />;
  const set = (change: Partial<Draft>) => setDraft((before) => ({ ...before!, ...change }));
  return (
    <Page title={t("create.title")} trail={[[t("jobs.title"), "#/jobs"]]} description={t("create.description")}>
      <CreationForm
        entered={draft}
        faults={faultsOf(draft)}
        create={() => aws.sagemaker.send(new CreateTrainingJobCommand(toRequest(draft)))}
        verb={t("create.submit")}
        created={t("create.created", { name: draft.name })}
        to={`/jobs/${draft.name}`}
        back="/jobs"
        code={() => trainingJobCode(toRequest(draft))}
      >
        {(faults) => {
          const section = { draft, set, faults };
          return (
            <SpaceBetween size="l">
              <JobSettings {...section} name="form.jobName"><EntryPoint {...section} /></JobSettings>
              <Resources {...section} />
              <Network {...section} />
              <Hyperparameters {...section} />
              <InputData {...section} />
              <Output {...section} />
              <EnvironmentAndTags {...section} />
              <Experiment {...section} />
            </SpaceBetween>
          );
        }}
      </CreationForm>
    </Page>
  );
}

async function cloned(aws: Clients, name: string, account: string, failed: (error: unknown) => void): Promise<Draft> {
  const job = await aws.sagemaker.send(new DescribeTrainingJobCommand({ TrainingJobName: name }));
  const { vpc, tags, resource } = await surroundings(aws, {
    arn: job.TrainingJobArn,
    subnets: job.VpcConfig?.Subnets,
    algorithm: job.AlgorithmSpecification?.AlgorithmName,
  }, failed);
  return fromDescription(job, vpc, tags, account, aws.home, resource);
}
