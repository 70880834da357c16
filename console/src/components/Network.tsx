/** The section Network: VPC, subnets, security groups, encryption, and whether the groups' rules allow it. */
import {
  AuthorizeSecurityGroupEgressCommand,
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  type SecurityGroup,
  type Subnet,
  type Vpc,
} from "@aws-sdk/client-ec2";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Checkbox from "@cloudscape-design/components/checkbox";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import Multiselect from "@cloudscape-design/components/multiselect";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { useState } from "react";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { wording } from "../aws/errors";
import { groupRules } from "../aws/rules";
import { type Key, useWords } from "../i18n";
import { instances } from "../model/draft";
import { type Missing, missingRules, permission } from "../model/groupRules";
import { type SectionProps, useFault } from "./form";

const nameOf = (resource: { Tags?: { Key?: string; Value?: string }[] }) =>
  resource.Tags?.find((tag) => tag.Key === "Name")?.Value;

interface Networks {
  vpcs: Vpc[];
  subnets: Subnet[];
  groups: SecurityGroup[];
}

async function networks(aws: Clients): Promise<Networks> {
  const [vpcs, subnets, groups] = await Promise.all([
    aws.ec2.send(new DescribeVpcsCommand({})),
    aws.ec2.send(new DescribeSubnetsCommand({})),
    aws.ec2.send(new DescribeSecurityGroupsCommand({})),
  ]);
  return { vpcs: vpcs.Vpcs ?? [], subnets: subnets.Subnets ?? [], groups: groups.SecurityGroups ?? [] };
}

export function Network({ draft, set, faults }: SectionProps) {
  const { t } = useWords();
  const fault = useFault();
  const aws = useAws();
  const { value: found, error, loading, refresh } = usePoll(() => networks(aws), [aws]);
  const vpcs = found?.vpcs ?? [];
  const subnets = (found?.subnets ?? []).filter((subnet) => subnet.VpcId === draft.vpc);
  const groups = (found?.groups ?? []).filter((group) => group.VpcId === draft.vpc);
  const vpcOption = (vpc: Vpc) => ({
    value: vpc.VpcId!,
    label: [vpc.IsDefault ? t("network.default") : nameOf(vpc), vpc.VpcId].filter(Boolean).join(" · "),
    description: vpc.CidrBlock,
  });
  const none = { value: "", label: t("network.none"), description: t("network.noneHint") };
  const vpcOptions = [none, ...vpcs.map(vpcOption)];
  const subnetOptions = subnets.map((subnet) => ({
    value: subnet.SubnetId!,
    label: [nameOf(subnet), subnet.SubnetId].filter(Boolean).join(" · "),
    description: t("network.subnetIs", {
      cidr: subnet.CidrBlock ?? "",
      zone: subnet.AvailabilityZone ?? "",
      free: subnet.AvailableIpAddressCount ?? 0,
    }),
  }));
  const groupOptions = groups.map((group) => ({
    value: group.GroupId!,
    label: `${group.GroupName} · ${group.GroupId}`,
    description: group.Description,
  }));
  const chosen = <Option extends { value: string }>(options: Option[], ids: string[]) =>
    ids.map((id) => options.find((option) => option.value === id) ?? { value: id, label: id });
  const several = instances(draft) > 1;
  return (
    <Container
      header={
        <Header variant="h2" actions={<Button formAction="none" iconName="refresh" ariaLabel={t("common.refresh")} onClick={refresh} />}>
          {t("network.title")}
        </Header>
      }
    >
      <SpaceBetween size="l">
        {error !== undefined && <Alert type="error">{wording(error)}</Alert>}
        <Checkbox checked={draft.isolation} description={t("network.isolationHint")}
          onChange={({ detail }) => set({ isolation: detail.checked })}>
          {t("network.isolation")}
        </Checkbox>
        <FormField label={t("network.vpc")} description={t("network.vpcHint")}>
          <Select
            selectedOption={vpcOptions.find((option) => option.value === draft.vpc) ?? { value: draft.vpc, label: draft.vpc }}
            options={vpcOptions}
            statusType={loading ? "loading" : "finished"}
            onChange={({ detail }) => set({ vpc: detail.selectedOption.value!, subnets: [], groups: [] })}
          />
        </FormField>
        {draft.vpc !== "" && (
          <SpaceBetween size="l">
            <FormField label={t("network.subnets")} errorText={fault(faults.subnets)}>
              <Multiselect
                selectedOptions={chosen(subnetOptions, draft.subnets)}
                options={subnetOptions}
                placeholder={t("network.chooseSubnets")}
                empty={t("network.noSubnets")}
                onChange={({ detail }) => set({ subnets: detail.selectedOptions.map((option) => option.value!) })}
              />
            </FormField>
            <FormField label={t("network.groups")} errorText={fault(faults.groups)}
              constraintText={
                // Its opener's tab hands it the session: nobody signs in twice.
                <Link href="#/security-groups" external rel="opener" fontSize="body-s">{t("network.manageGroups")}</Link>
              }>
              <Multiselect
                selectedOptions={chosen(groupOptions, draft.groups)}
                options={groupOptions}
                placeholder={t("network.chooseGroups")}
                empty={t("network.noGroups")}
                onChange={({ detail }) => set({ groups: detail.selectedOptions.map((option) => option.value!) })}
              />
            </FormField>
          </SpaceBetween>
        )}
        <Checkbox checked={draft.encrypt} description={t("network.encryptHint")}
          onChange={({ detail }) => set({ encrypt: detail.checked })}>
          {t("network.encrypt")}
        </Checkbox>
        {draft.encrypt && !several && <Alert type="info">{t("network.oneInstance")}</Alert>}
        {draft.encrypt && several && draft.vpc === "" && <StatusIndicator type="success">{t("network.ownRules")}</StatusIndicator>}
        {draft.encrypt && several && draft.subnets.length > 0 && draft.groups.length > 0 && (
          <RuleCheck
            groups={draft.groups}
            networks={subnets.filter((subnet) => draft.subnets.includes(subnet.SubnetId!)).map((subnet) => subnet.CidrBlock!)}
          />
        )}
        {!draft.encrypt && several && <StatusIndicator type="warning">{t("network.clear")}</StatusIndicator>}
      </SpaceBetween>
    </Container>
  );
}

/** How often the rules are looked at again: somebody else may be changing them. */
const CHECK_MILLISECONDS = 5000;

/** Says whether the groups allow an encrypted job, names what is missing, and adds it. */
export function RuleCheck({ groups, networks }: { groups: string[]; networks: string[] }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const [adding, setAdding] = useState(false);
  const { value, error, refresh } = usePoll(() => groupRules(aws, groups), [aws, groups.join()], () => CHECK_MILLISECONDS);
  if (value === undefined) {
    return error === undefined ? (
      <StatusIndicator type="loading">{t("check.running")}</StatusIndicator>
    ) : (
      <Alert type="error">{wording(error)}</Alert>
    );
  }
  const missing = missingRules(groups, value.rules, networks, value.prefixLists);
  if (missing.length === 0) return <Alert type="success" header={t("check.fine")}>{t("check.fineHint")}</Alert>;
  const add = async () => {
    setAdding(true);
    try {
      await addRules(aws, groups[0]!, missing);
      notices.done(t("check.added", { count: missing.length, group: groups[0]! }));
    } catch (failure) {
      notices.failed(failure);
    }
    setAdding(false);
    refresh();
  };
  return (
    <Alert
      type="error"
      header={t("check.missing")}
      action={<Button formAction="none" loading={adding} onClick={() => void add()}>{t(missing.length === 1 ? "check.addOne" : "check.addAll")}</Button>}
    >
      <Box variant="p">{t("check.will", { groups: groups.join(", ") })}</Box>
      <ul>
        {missing.map((each) => (
          <li key={each.direction + each.traffic}>{t(`check.${each.direction}.${each.traffic}` satisfies Key)}</li>
        ))}
      </ul>
    </Alert>
  );
}

/** Adds what is missing to `group`, from and to itself. */
export async function addRules(aws: Clients, group: string, missing: Missing[]): Promise<void> {
  for (const direction of ["ingress", "egress"] as const) {
    const IpPermissions = missing.filter((each) => each.direction === direction).map((each) => permission(each, group));
    if (IpPermissions.length === 0) continue;
    const members = { GroupId: group, IpPermissions };
    if (direction === "ingress") await aws.ec2.send(new AuthorizeSecurityGroupIngressCommand(members));
    else await aws.ec2.send(new AuthorizeSecurityGroupEgressCommand(members));
  }
}
