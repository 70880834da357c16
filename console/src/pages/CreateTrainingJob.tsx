import { CreateTrainingJobCommand, DescribeTrainingJobCommand, ListTagsCommand } from "@aws-sdk/client-sagemaker";
import { DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import Button from "@cloudscape-design/components/button";
import Form from "@cloudscape-design/components/form";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { type FormEvent, useEffect, useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { useAws, useIdentity } from "../app/session";
import type { Clients } from "../aws/clients";
import { CodeModal } from "../components/Code";
import {
  EnvironmentAndTags,
  FaultCount,
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
  const [, navigate] = useHashLocation();
  const [draft, setDraft] = useState<Draft | undefined>(original === undefined ? emptyDraft(account, aws.region) : undefined);
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [code, setCode] = useState(false);
  useEffect(() => {
    if (original === undefined) return;
    cloned(aws, original, account).then(
      (copy) => setDraft(plain ? { ...copy, encrypt: false, name: `${copy.name.slice(0, 57)}-clear` } : copy),
      (error: unknown) => {
        notices.failed(error);
        setDraft(emptyDraft(account, aws.region));
      },
    );
  }, [aws, original]);
  if (draft === undefined) return <Spinner size="large" />;
  const set = (change: Partial<Draft>) => setDraft((before) => ({ ...before!, ...change }));
  const found = faultsOf(draft);
  const shown = tried ? found : {};
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(found).length > 0) return;
    setBusy(true);
    try {
      await aws.sagemaker.send(new CreateTrainingJobCommand(toRequest(draft)));
      notices.done(t("create.created", { name: draft.name }));
      navigate(`/jobs/${draft.name}`);
    } catch (error) {
      notices.failed(error);
      setBusy(false);
    }
  };
  const section = { draft, set, faults: shown };
  return (
    <Page title={t("create.title")} trail={[[t("jobs.title"), "#/jobs"]]} description={t("create.description")}>
      <form onSubmit={(event) => void submit(event)}>
        <Form
          actions={
            <SpaceBetween direction="horizontal" size="xs">
              <Button formAction="none" onClick={() => setCode(true)}>{t("code.view")}</Button>
              <Button formAction="none" variant="link" onClick={() => navigate("/jobs")}>{t("common.cancel")}</Button>
              <Button formAction="submit" variant="primary" loading={busy}>{t("create.submit")}</Button>
            </SpaceBetween>
          }
        >
          <SpaceBetween size="l">
            <JobSettings {...section} name="form.jobName" />
            <Resources {...section} />
            <Network {...section} />
            <Hyperparameters {...section} />
            <InputData {...section} />
            <Output {...section} />
            <EnvironmentAndTags {...section} />
            <FaultCount faults={shown} />
          </SpaceBetween>
        </Form>
      </form>
      {code && <CodeModal code={trainingJobCode(toRequest(draft))} close={() => setCode(false)} />}
    </Page>
  );
}

async function cloned(aws: Clients, name: string, account: string): Promise<Draft> {
  const job = await aws.sagemaker.send(new DescribeTrainingJobCommand({ TrainingJobName: name }));
  const tags = await aws.sagemaker.send(new ListTagsCommand({ ResourceArn: job.TrainingJobArn }));
  const subnets = job.VpcConfig?.Subnets ?? [];
  let vpc = "";
  if (subnets.length > 0) {
    const found = await aws.ec2.send(new DescribeSubnetsCommand({ SubnetIds: subnets }));
    vpc = found.Subnets?.[0]?.VpcId ?? "";
  }
  const pairs = (tags.Tags ?? []).map(({ Key, Value }) => ({ key: Key ?? "", value: Value ?? "" }));
  return fromDescription(job, vpc, pairs, account, aws.region);
}
