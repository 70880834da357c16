/** Parts of what was described, of training jobs as of tuning jobs. */
import type { DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import CopyToClipboard from "@cloudscape-design/components/copy-to-clipboard";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import type { ReactNode } from "react";
import { type Key, useWords } from "../i18n";

type Networked = Pick<DescribeTrainingJobResponse, "VpcConfig" | "EnableNetworkIsolation" | "EnableInterContainerTrafficEncryption">;

/** What a job may have, as an item of a list of values; no item where it has not. */
export function present<Value>(label: string, value: Value | undefined, show: (value: Value) => ReactNode) {
  return value === undefined ? [] : [{ label, value: show(value) }];
}

/** A name that is copied at the press of a button. */
export function Arn({ arn }: { arn: string | undefined }) {
  const { t } = useWords();
  return (
    <CopyToClipboard variant="inline" textToCopy={arn ?? ""} copyButtonAriaLabel={t("common.copy")}
      copySuccessText={t("common.copied")} copyErrorText={t("common.notCopied")} />
  );
}

/** Values by their names, in order. */
export function Named({ title, none, items }: { title: Key; none: Key; items: [string, string][] }) {
  const { t, locale } = useWords();
  return (
    <Table
      header={<Header variant="h2">{t(title)}</Header>}
      ariaLabels={{ tableLabel: t(title) }}
      items={items.sort(([one], [other]) => one.localeCompare(other, locale))}
      trackBy={([key]) => key}
      empty={t(none)}
      columnDefinitions={[
        { id: "key", header: t("form.key"), minWidth: 160, isRowHeader: true, cell: ([key]) => <span className="whole">{key}</span> },
        { id: "value", header: t("form.value"), minWidth: 240, cell: ([, value]) => <span className="whole">{value}</span> },
      ]}
      wrapLines
    />
  );
}

/** The network of a job, or of a definition of training jobs. */
export function NetworkOf({ job }: { job: Networked }) {
  const { t } = useWords();
  const vpc = job.VpcConfig;
  return (
    <KeyValuePairs
      columns={2}
      items={[
        { label: t("network.subnets"), value: vpc?.Subnets?.join(", ") ?? t("network.none") },
        {
          label: t("network.groups"),
          value: vpc === undefined ? "–" : (
            <SpaceBetween size="xxs">
              {(vpc.SecurityGroupIds ?? []).map((id) => <Link key={id} href={`#/security-groups/${id}`}>{id}</Link>)}
            </SpaceBetween>
          ),
        },
        { label: t("network.isolation"), value: t(job.EnableNetworkIsolation ? "job.on" : "job.off") },
        { label: t("network.encrypt"), value: t(job.EnableInterContainerTrafficEncryption ? "job.on" : "job.off") },
      ]}
    />
  );
}
