import {
  type HyperParameterTuningJobStatus,
  type HyperParameterTuningJobSummary,
  ListHyperParameterTuningJobsCommand,
  DeleteHyperParameterTuningJobCommand,
  StopHyperParameterTuningJobCommand,
} from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { usePages } from "../app/pages";
import { useAws } from "../app/session";
import { wording } from "../aws/errors";
import { Ask } from "../components/Ask";
import { JobFilter, useJobFilter } from "../components/JobFilter";
import { useTitle } from "../components/Page";
import { isOver, Status } from "../components/Status";
import { Turner } from "../components/Turner";
import { useWords } from "../i18n";

const PAGE_SIZE = 25;
const ACTIVE_MILLISECONDS = 3000;
const IDLE_MILLISECONDS = 15_000;

export default function TuningJobs() {
  const { t, moment } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  const wanted = useJobFilter();
  const { contains, status } = wanted;
  useTitle(t("tunings.title"));
  const [chosen, setChosen] = useState<string>();
  const [asking, setAsking] = useState<{ what: "stop" | "delete"; name: string }>();
  const pages = usePages(
    async (NextToken) => {
      const answer = await aws.sagemaker.send(
        new ListHyperParameterTuningJobsCommand({
          MaxResults: PAGE_SIZE,
          NextToken,
          NameContains: contains || undefined,
          StatusEquals: (status || undefined) as HyperParameterTuningJobStatus | undefined,
          SortBy: "CreationTime",
          SortOrder: "Descending",
        }),
      );
      return { items: answer.HyperParameterTuningJobSummaries ?? [], next: answer.NextToken };
    },
    [aws, contains, status],
    ({ items }) => (items.some((job) => !isOver(job.HyperParameterTuningJobStatus)) ? ACTIVE_MILLISECONDS : IDLE_MILLISECONDS),
    JSON.stringify([contains, status]),
  );
  const items = pages.value?.items ?? [];
  const selected = items.find((job) => job.HyperParameterTuningJobName === chosen);
  const name = selected?.HyperParameterTuningJobName ?? "";
  const close = () => {
    setAsking(undefined);
    pages.refresh();
  };
  const filtered = contains !== "" || status !== "";
  return (
    <>
      {pages.error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(pages.error)}</Alert>}
      <Table<HyperParameterTuningJobSummary>
        variant="full-page"
        stickyHeader
        trackBy="HyperParameterTuningJobName"
        items={items}
        loading={pages.loading}
        loadingText={t("common.loading")}
        selectionType="single"
        selectedItems={selected === undefined ? [] : [selected]}
        onSelectionChange={({ detail }) => setChosen(detail.selectedItems[0]?.HyperParameterTuningJobName)}
        ariaLabels={{
          tableLabel: t("tunings.title"),
          selectionGroupLabel: t("tunings.title"),
          itemSelectionLabel: (_, job) => job.HyperParameterTuningJobName ?? "",
        }}
        columnDefinitions={[
          {
            id: "name",
            header: t("jobs.name"),
            isRowHeader: true,
            cell: (job) => <Link href={`#/tuning/${job.HyperParameterTuningJobName}`}>{job.HyperParameterTuningJobName}</Link>,
          },
          { id: "status", header: t("jobs.status"), cell: (job) => <Status status={job.HyperParameterTuningJobStatus} /> },
          { id: "created", header: t("jobs.created"), cell: (job) => moment(job.CreationTime) },
          { id: "strategy", header: t("tuning.strategy"), cell: (job) => job.Strategy },
          {
            id: "jobs",
            header: t("tuning.done"),
            cell: (job) =>
              t("tuning.doneOf", {
                done: job.TrainingJobStatusCounters?.Completed ?? 0,
                all: job.ResourceLimits?.MaxNumberOfTrainingJobs ?? "–",
              }),
          },
        ]}
        header={
          <Header
            variant="awsui-h1-sticky"
            description={t("tunings.description")}
            actions={
              <SpaceBetween direction="horizontal" size="xs">
                <Button iconName="refresh" ariaLabel={t("common.refresh")} onClick={pages.refresh} />
                <ButtonDropdown
                  disabled={selected === undefined}
                  items={[
                    { id: "clone", text: t("jobs.clone") },
                    { id: "stop", text: t("jobs.stop"), disabled: selected?.HyperParameterTuningJobStatus !== "InProgress" },
                    { id: "delete", text: t("common.delete"), disabled: !isOver(selected?.HyperParameterTuningJobStatus) },
                  ]}
                  onItemClick={({ detail }) => {
                    if (detail.id === "clone") navigate(`/create-tuning/${name}`);
                    else setAsking({ what: detail.id as "stop" | "delete", name });
                  }}
                >
                  {t("common.actions")}
                </ButtonDropdown>
                <Button variant="primary" onClick={() => navigate("/create-tuning")}>{t("tuning.create")}</Button>
              </SpaceBetween>
            }
          >
            {t("tunings.title")}
          </Header>
        }
        filter={<JobFilter {...wanted} />}
        pagination={<Turner pages={pages} />}
        empty={
          <Box textAlign="center" padding="l">
            <SpaceBetween size="m">
              <b>{t(filtered ? "tunings.noMatch" : "tunings.none")}</b>
              {filtered && <Button onClick={() => { wanted.setTyped(""); wanted.setStatus(""); }}>{t("common.clear")}</Button>}
              {!filtered && <Button onClick={() => navigate("/create-tuning")}>{t("tuning.create")}</Button>}
            </SpaceBetween>
          </Box>
        }
      />
      {asking?.what === "stop" && <StopTuning name={asking.name} close={close} />}
      {asking?.what === "delete" && <DeleteTuning name={asking.name} close={close} />}
    </>
  );
}

export function DeleteTuning({ name, close, done }: { name: string; close: () => void; done?: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  return (
    <Ask
      title={t("jobs.deleteTitle", { name })}
      text={t("tuning.deleteText")}
      verb={t("common.delete")}
      close={close}
      done={done}
      act={async () => {
        await aws.sagemaker.send(new DeleteHyperParameterTuningJobCommand({ HyperParameterTuningJobName: name }));
        return t("tuning.deleted", { name });
      }}
    />
  );
}

export function StopTuning({ name, close }: { name: string; close: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  return (
    <Ask
      title={t("jobs.stopTitle", { name })}
      text={t("tuning.stopText")}
      verb={t("jobs.stop")}
      close={close}
      act={async () => {
        await aws.sagemaker.send(new StopHyperParameterTuningJobCommand({ HyperParameterTuningJobName: name }));
        return t("tuning.stopping", { name });
      }}
    />
  );
}
