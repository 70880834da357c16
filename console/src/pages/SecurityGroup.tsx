import {
  AuthorizeSecurityGroupEgressCommand,
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupsCommand,
  DescribeVpcsCommand,
  RevokeSecurityGroupEgressCommand,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Modal from "@cloudscape-design/components/modal";
import Popover from "@cloudscape-design/components/popover";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import Wizard from "@cloudscape-design/components/wizard";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { wording } from "../aws/errors";
import { groupRules } from "../aws/rules";
import { addRules } from "../components/Network";
import { Page } from "../components/Page";
import { type Key, useWords } from "../i18n";
import { isEsp, type Missing, missingRules, type Rule } from "../model/groupRules";
import { type Kind, KINDS, type NewRule, peerOf, permissionOf, portsOf, protocolOf, ruleFaults } from "../model/rules";

const LOOK_MILLISECONDS = 5000;

/** A group with its rules, and the block of its VPC: where the instances of a job in it are. */
async function load(aws: Clients, id: string) {
  const [groups, { rules, prefixLists }] = await Promise.all([
    aws.ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id] })),
    groupRules(aws, [id]),
  ]);
  const group = groups.SecurityGroups![0]!;
  const vpcs = await aws.ec2.send(new DescribeVpcsCommand({ VpcIds: [group.VpcId!] }));
  const blocks = (vpcs.Vpcs ?? []).map((vpc) => vpc.CidrBlock!);
  return { group, rules, missing: missingRules([id], rules, blocks, prefixLists) };
}

const useGroup = (id: string) => {
  const aws = useAws();
  return usePoll(() => load(aws, id), [aws, id], () => LOOK_MILLISECONDS);
};

export default function SecurityGroup({ id, fitting }: { id: string; fitting?: boolean }) {
  return fitting ? <Fit id={id} /> : <Details id={id} />;
}

function Details({ id }: { id: string }) {
  const { t } = useWords();
  const [, navigate] = useHashLocation();
  const { value: found, error, refresh } = useGroup(id);
  const trail: [string, string][] = [[t("groups.title"), "#/security-groups"]];
  if (found === undefined) {
    return (
      <Page title={id} trail={trail}>
        {error === undefined ? t("common.loading") : <Alert type="error">{wording(error)}</Alert>}
      </Page>
    );
  }
  const { group, rules, missing } = found;
  return (
    <Page title={`${group.GroupName} · ${id}`} trail={trail}
      actions={<Button onClick={() => navigate(`/security-groups/${id}/fit`)}>{t("fit.open")}</Button>}>
      {error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(error)}</Alert>}
      <Container header={<Header variant="h2">{t("job.overview")}</Header>}>
        <KeyValuePairs
          columns={4}
          items={[
            { label: t("groups.name"), value: group.GroupName },
            { label: t("network.vpc"), value: group.VpcId },
            { label: t("job.message"), value: group.Description },
            {
              label: t("groups.fit"),
              value: (
                <StatusIndicator type={missing.length === 0 ? "success" : "warning"}>
                  {missing.length === 0 ? t("groups.isFit") : t("groups.lacks", { count: missing.length })}
                </StatusIndicator>
              ),
            },
          ]}
        />
      </Container>
      <Rules group={id} direction="ingress" rules={rules.filter((rule) => !rule.IsEgress)} changed={refresh} />
      <Rules group={id} direction="egress" rules={rules.filter((rule) => rule.IsEgress)} changed={refresh} />
    </Page>
  );
}

type Direction = Missing["direction"];

function Rules({ group, direction, rules, changed }: { group: string; direction: Direction; rules: Rule[]; changed: () => void }) {
  const { t, number } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const [chosen, setChosen] = useState<string[]>([]);
  const [adding, setAdding] = useState(false);
  const [revoking, setRevoking] = useState(false);
  const selected = rules.filter((rule) => chosen.includes(rule.SecurityGroupRuleId!));
  const title = t(`rules.${direction}` as Key);
  const revoke = async () => {
    setRevoking(true);
    const members = { GroupId: group, SecurityGroupRuleIds: selected.map((rule) => rule.SecurityGroupRuleId!) };
    try {
      if (direction === "ingress") await aws.ec2.send(new RevokeSecurityGroupIngressCommand(members));
      else await aws.ec2.send(new RevokeSecurityGroupEgressCommand(members));
      notices.done(t("rules.revoked", { count: selected.length }));
      setChosen([]);
    } catch (error) {
      notices.failed(error);
    }
    setRevoking(false);
    changed();
  };
  return (
    <>
      <Table
        items={rules}
        trackBy="SecurityGroupRuleId"
        selectionType="multi"
        selectedItems={selected}
        onSelectionChange={({ detail }) => setChosen(detail.selectedItems.map((rule) => rule.SecurityGroupRuleId!))}
        ariaLabels={{
          tableLabel: title,
          selectionGroupLabel: title,
          allItemsSelectionLabel: () => t("rules.all"),
          itemSelectionLabel: (_, rule) => rule.SecurityGroupRuleId ?? "",
        }}
        empty={t("rules.none")}
        header={
          <Header
            variant="h2"
            counter={`(${number(rules.length)})`}
            actions={
              <SpaceBetween direction="horizontal" size="xs">
                <Button disabled={selected.length === 0} loading={revoking} onClick={() => void revoke()}>
                  {t("rules.revoke")}
                </Button>
                <Button onClick={() => setAdding(true)}>{t("rules.add")}</Button>
              </SpaceBetween>
            }
          >
            {title}
          </Header>
        }
        columnDefinitions={[
          { id: "id", header: t("rules.id"), isRowHeader: true, cell: (rule) => rule.SecurityGroupRuleId },
          { id: "protocol", header: t("rules.protocol"), cell: (rule) => (rule.IpProtocol === "-1" ? t("rules.allTraffic") : protocolOf(rule)) },
          { id: "ports", header: t("rules.ports"), cell: (rule) => <Ports rule={rule} /> },
          {
            id: "peer",
            header: t(direction === "ingress" ? "rules.source" : "rules.destination"),
            cell: (rule) => (peerOf(rule) === group ? t("rules.itself", { group }) : peerOf(rule)),
          },
          { id: "description", header: t("job.message"), cell: (rule) => rule.Description ?? "–" },
        ]}
      />
      {adding && <AddRule group={group} direction={direction} close={() => { setAdding(false); changed(); }} />}
    </>
  );
}

/** The port range of a rule. For ESP it is "All", whatever was asked for: ESP has no ports, and EC2 ignores them. */
function Ports({ rule }: { rule: Rule }) {
  const { t } = useWords();
  const ports = portsOf(rule) ?? t("rules.allPorts");
  if (!isEsp(rule)) return <>{ports}</>;
  return <Popover header={protocolOf(rule)} content={t("rules.espPorts")} triggerType="text">{ports}</Popover>;
}

function AddRule({ group, direction, close }: { group: string; direction: Direction; close: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const [rule, setRule] = useState<NewRule>({ kind: "ike", ports: "", peer: group, description: "" });
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<unknown>();
  const faults = ruleFaults(rule);
  const set = (change: Partial<NewRule>) => setRule({ ...rule, ...change });
  const add = async () => {
    setTried(true);
    if (faults.length > 0) return;
    setBusy(true);
    const members = { GroupId: group, IpPermissions: [permissionOf(rule)] };
    try {
      if (direction === "ingress") await aws.ec2.send(new AuthorizeSecurityGroupIngressCommand(members));
      else await aws.ec2.send(new AuthorizeSecurityGroupEgressCommand(members));
      notices.done(t("check.added", { count: 1, group }));
      close();
    } catch (error) {
      setRefusal(error);
      setBusy(false);
    }
  };
  const kind = (value: Kind) => ({ value, label: t(`rules.kind.${value}` as Key) });
  return (
    <Modal
      visible
      header={`${t(`rules.${direction}` as Key)}: ${t("rules.add")}`}
      onDismiss={close}
      footer={
        <Box float="right">
          <SpaceBetween direction="horizontal" size="xs">
            <Button variant="link" onClick={close}>{t("common.cancel")}</Button>
            <Button variant="primary" loading={busy} onClick={() => void add()}>{t("rules.add")}</Button>
          </SpaceBetween>
        </Box>
      }
    >
      <SpaceBetween size="l">
        {refusal !== undefined && <Alert type="error">{wording(refusal)}</Alert>}
        <FormField label={t("rules.kind")}>
          <Select selectedOption={kind(rule.kind)} options={KINDS.map(kind)}
            onChange={({ detail }) => set({ kind: detail.selectedOption.value as Kind })} />
        </FormField>
        {(rule.kind === "tcp" || rule.kind === "udp") && (
          <FormField label={t("rules.ports")} errorText={tried && faults.includes("ports") && t("rules.portsFault")}>
            <Input value={rule.ports} onChange={({ detail }) => set({ ports: detail.value })} />
          </FormField>
        )}
        {rule.kind === "esp" && <Alert type="info">{t("rules.espPorts")}</Alert>}
        <FormField
          label={t(direction === "ingress" ? "rules.source" : "rules.destination")}
          constraintText={t("rules.peerHint")}
          errorText={tried && faults.includes("peer") && t("rules.peerFault")}
        >
          <Input value={rule.peer} spellcheck={false} onChange={({ detail }) => set({ peer: detail.value })} />
        </FormField>
        <FormField label={<>{t("job.message")} <i>– {t("form.optional")}</i></>}>
          <Input value={rule.description} onChange={({ detail }) => set({ description: detail.value })} />
        </FormField>
      </SpaceBetween>
    </Modal>
  );
}

const NEEDED: Missing[] = [
  { direction: "ingress", traffic: "ike" },
  { direction: "ingress", traffic: "esp" },
  { direction: "egress", traffic: "ike" },
  { direction: "egress", traffic: "esp" },
];

/** The wizard that makes a group fit for encrypted training: what is needed, what will be done, done. */
function Fit({ id }: { id: string }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const [, navigate] = useHashLocation();
  const [step, setStep] = useState(0);
  const [busy, setBusy] = useState(false);
  const { value: found, error } = useGroup(id);
  const trail: [string, string][] = [[t("groups.title"), "#/security-groups"], [id, `#/security-groups/${id}`]];
  if (found === undefined) {
    return (
      <Page title={t("fit.title")} trail={trail}>
        {error === undefined ? t("common.loading") : <Alert type="error">{wording(error)}</Alert>}
      </Page>
    );
  }
  const { missing } = found;
  const lacks = (need: Missing) => missing.some((each) => each.direction === need.direction && each.traffic === need.traffic);
  const name = (need: Missing) => t(`check.${need.direction}.${need.traffic}` as Key);
  const apply = async () => {
    setBusy(true);
    try {
      await addRules(aws, id, missing);
      notices.done(missing.length === 0 ? t("fit.nothing") : t("check.added", { count: missing.length, group: id }));
      navigate(`/security-groups/${id}`);
    } catch (failure) {
      notices.failed(failure);
      setBusy(false);
    }
  };
  return (
    <Page title={t("fit.title")} trail={trail} description={`${found.group.GroupName} · ${id}`}>
      <Wizard
        activeStepIndex={step}
        onNavigate={({ detail }) => setStep(detail.requestedStepIndex)}
        onCancel={() => navigate(`/security-groups/${id}`)}
        onSubmit={() => void apply()}
        isLoadingNextStep={busy}
        submitButtonText={t("fit.submit")}
        steps={[
          {
            title: t("fit.needs"),
            description: t("fit.needsHint"),
            content: (
              <Container header={<Header variant="h2">{t("fit.rules")}</Header>}>
                <ul className="plain">
                  {NEEDED.map((need) => (
                    <li key={name(need)}>
                      <StatusIndicator type={lacks(need) ? "error" : "success"}>
                        {t(lacks(need) ? "fit.missing" : "fit.present", { rule: name(need) })}
                      </StatusIndicator>
                    </li>
                  ))}
                </ul>
              </Container>
            ),
          },
          {
            title: t("fit.review"),
            description: t("fit.reviewHint"),
            content: (
              <Container header={<Header variant="h2">{t("fit.will")}</Header>}>
                {missing.length === 0 ? (
                  <StatusIndicator type="success">{t("fit.nothing")}</StatusIndicator>
                ) : (
                  <ul>{missing.map((need) => <li key={name(need)}>{name(need)}</li>)}</ul>
                )}
              </Container>
            ),
          },
        ]}
      />
    </Page>
  );
}
