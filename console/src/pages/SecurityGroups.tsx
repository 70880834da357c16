import {
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  DescribeVpcsCommand,
  type SecurityGroup,
} from "@aws-sdk/client-ec2";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import Modal from "@cloudscape-design/components/modal";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { useNotices } from "../app/notices";
import { usePages } from "../app/pages";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import { wording } from "../aws/errors";
import { Ask } from "../components/Ask";
import { useTitle } from "../components/Page";
import { Turner } from "../components/Turner";
import { useWords } from "../i18n";

const PAGE_SIZE = 50;
const LOOK_MILLISECONDS = 15_000;

export default function SecurityGroups() {
  const { t } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const [chosen, setChosen] = useState<string>();
  const [asking, setAsking] = useState<"create" | "delete">();
  useTitle(t("groups.title"));
  const pages = usePages(
    async (NextToken) => {
      const answer = await aws.ec2.send(new DescribeSecurityGroupsCommand({ MaxResults: PAGE_SIZE, NextToken }));
      return { items: answer.SecurityGroups ?? [], next: answer.NextToken || undefined };
    },
    [aws],
    () => LOOK_MILLISECONDS,
  );
  const items = pages.value?.items ?? [];
  const selected = items.find((group) => group.GroupId === chosen);
  const close = () => {
    setAsking(undefined);
    pages.refresh();
  };
  return (
    <>
      {pages.error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(pages.error)}</Alert>}
      <Table<SecurityGroup>
        variant="full-page"
        stickyHeader
        trackBy="GroupId"
        items={items}
        loading={pages.loading}
        loadingText={t("common.loading")}
        selectionType="single"
        selectedItems={selected === undefined ? [] : [selected]}
        onSelectionChange={({ detail }) => setChosen(detail.selectedItems[0]?.GroupId)}
        ariaLabels={{
          tableLabel: t("groups.title"),
          selectionGroupLabel: t("groups.title"),
          itemSelectionLabel: (_, group) => group.GroupId ?? "",
        }}
        columnDefinitions={[
          {
            id: "id",
            header: t("groups.id"),
            isRowHeader: true,
            cell: (group) => <Link href={`#/security-groups/${group.GroupId}`}>{group.GroupId}</Link>,
          },
          { id: "name", header: t("groups.name"), cell: (group) => group.GroupName },
          { id: "vpc", header: t("network.vpc"), cell: (group) => group.VpcId },
          { id: "description", header: t("job.message"), cell: (group) => group.Description },
        ]}
        header={
          <Header
            variant="awsui-h1-sticky"
            description={t("groups.description")}
            actions={
              <SpaceBetween direction="horizontal" size="xs">
                <Button iconName="refresh" ariaLabel={t("common.refresh")} onClick={pages.refresh} />
                <Button disabled={selected === undefined || selected.GroupName === "default"} onClick={() => setAsking("delete")}>
                  {t("common.delete")}
                </Button>
                <Button disabled={selected === undefined} onClick={() => navigate(`/security-groups/${chosen}/fit`)}>
                  {t("fit.open")}
                </Button>
                <Button variant="primary" onClick={() => setAsking("create")}>{t("groups.create")}</Button>
              </SpaceBetween>
            }
          >
            {t("groups.title")}
          </Header>
        }
        pagination={<Turner pages={pages} />}
        empty={<Box textAlign="center" padding="l">{t("groups.none")}</Box>}
      />
      {asking === "create" && <CreateGroup close={close} />}
      {asking === "delete" && (
        <Ask
          title={t("jobs.deleteTitle", { name: chosen! })}
          text={t("groups.deleteText")}
          verb={t("common.delete")}
          close={close}
          act={async () => {
            await aws.ec2.send(new DeleteSecurityGroupCommand({ GroupId: chosen }));
            return t("groups.deleted", { id: chosen! });
          }}
        />
      )}
    </>
  );
}

function CreateGroup({ close }: { close: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  const notices = useNotices();
  const [, navigate] = useHashLocation();
  const { value: vpcs = [], error, loading } = usePoll(async () => (await aws.ec2.send(new DescribeVpcsCommand({}))).Vpcs ?? [], [aws]);
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [vpc, setVpc] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<unknown>();
  const VpcId = vpc ?? vpcs.find((each) => each.IsDefault)?.VpcId ?? vpcs[0]?.VpcId;
  const create = async () => {
    setBusy(true);
    try {
      const made = await aws.ec2.send(new CreateSecurityGroupCommand({ GroupName: name, Description: description, VpcId }));
      notices.done(t("groups.created", { id: made.GroupId! }));
      navigate(`/security-groups/${made.GroupId}/fit`);
    } catch (failure) {
      setRefusal(failure);
      setBusy(false);
    }
  };
  return (
    <Modal
      visible
      header={t("groups.create")}
      onDismiss={close}
      footer={
        <Box float="right">
          <SpaceBetween direction="horizontal" size="xs">
            <Button variant="link" onClick={close}>{t("common.cancel")}</Button>
            <Button variant="primary" disabled={name === "" || description === ""} loading={busy} onClick={() => void create()}>
              {t("groups.create")}
            </Button>
          </SpaceBetween>
        </Box>
      }
    >
      <SpaceBetween size="l">
        {refusal !== undefined && <Alert type="error">{wording(refusal)}</Alert>}
        <FormField label={t("groups.name")}>
          <Input value={name} onChange={({ detail }) => setName(detail.value)} />
        </FormField>
        <FormField label={t("job.message")} constraintText={t("groups.descriptionHint")}>
          <Input value={description} onChange={({ detail }) => setDescription(detail.value)} />
        </FormField>
        <FormField label={t("network.vpc")} errorText={error === undefined ? undefined : wording(error)}>
          <Select
            selectedOption={VpcId === undefined ? null : { value: VpcId, label: VpcId }}
            options={vpcs.map((each) => ({
              value: each.VpcId!,
              label: each.VpcId!,
              description: [each.CidrBlock, each.IsDefault ? t("network.default") : ""].filter(Boolean).join(" · "),
            }))}
            statusType={loading ? "loading" : "finished"}
            onChange={({ detail }) => setVpc(detail.selectedOption.value)}
          />
        </FormField>
      </SpaceBetween>
    </Modal>
  );
}
