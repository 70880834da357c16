/** What a running job says of the traffic between its instances, where rules that were changed keep it from passing. */
import type { DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type Key, useWords } from "../i18n";
import { explained, recognised } from "../i18n/said";

const HEADERS: Partial<Record<Key, Key>> = { "said.trafficStopped": "traffic.stopped", "said.trafficAtRisk": "traffic.atRisk" };

export function Traffic({ job }: { job: DescribeTrainingJobResponse }) {
  const words = useWords();
  const { t } = words;
  const last = job.SecondaryStatusTransitions?.at(-1);
  const found = last?.EndTime === undefined ? recognised(last?.StatusMessage ?? "") : undefined;
  const header = found && HEADERS[found.key];
  if (header === undefined) return null;
  return (
    <Alert type="warning" header={t(header)}>
      <SpaceBetween size="xs">
        {explained(words, found!.values.reason!)}
        <SpaceBetween direction="horizontal" size="xs">
          {(job.VpcConfig?.SecurityGroupIds ?? []).map((id) => <Link key={id} href={`#/security-groups/${id}`}>{id}</Link>)}
        </SpaceBetween>
      </SpaceBetween>
    </Alert>
  );
}
