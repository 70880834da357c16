import {
  DeleteTrainingJobCommand,
  ListTrainingJobsCommand,
  StopTrainingJobCommand,
  type TrainingJobStatus,
  type TrainingJobSummary,
} from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table, { type TableProps } from "@cloudscape-design/components/table";
import { useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";
import { usePages } from "../app/pages";
import { useRemembered } from "../app/remembered";
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

type SortBy = "Name" | "CreationTime" | "Status";

export default function TrainingJobs() {
  const { t, moment, duration } = useWords();
  const aws = useAws();
  const [, navigate] = useHashLocation();
  useTitle(t("jobs.title"));
  const wanted = useJobFilter();
  const { contains, status } = wanted;
  const [sort, setSort] = useRemembered<{ by: SortBy; descending: boolean }>("sort", { by: "CreationTime", descending: true });
  const [chosen, setChosen] = useState<TrainingJobSummary>();
  const [asking, setAsking] = useState<{ what: "stop" | "delete"; name: string }>();
  const pages = usePages(
    async (NextToken) => {
      const answer = await aws.sagemaker.send(
        new ListTrainingJobsCommand({
          MaxResults: PAGE_SIZE,
          NextToken,
          NameContains: contains || undefined,
          StatusEquals: (status || undefined) as TrainingJobStatus | undefined,
          SortBy: sort.by,
          SortOrder: sort.descending ? "Descending" : "Ascending",
        }),
      );
      return { items: answer.TrainingJobSummaries ?? [], next: answer.NextToken };
    },
    [aws, contains, status, sort],
    ({ items }) => (items.some((job) => !isOver(job.TrainingJobStatus)) ? ACTIVE_MILLISECONDS : IDLE_MILLISECONDS),
    JSON.stringify([contains, status, sort]),
  );
  const items = pages.value?.items ?? [];
  const selected = items.find((job) => job.TrainingJobName === chosen?.TrainingJobName);
  const filtered = contains !== "" || status !== "";
  const columns: (TableProps.ColumnDefinition<TrainingJobSummary> & { sortingField?: SortBy })[] = [
    {
      id: "name",
      header: t("jobs.name"),
      sortingField: "Name",
      isRowHeader: true,
      cell: (job) => <Link href={`#/jobs/${job.TrainingJobName}`}>{job.TrainingJobName}</Link>,
    },
    {
      id: "created",
      header: t("jobs.created"),
      sortingField: "CreationTime",
      cell: (job) => moment(job.CreationTime),
    },
    {
      id: "duration",
      header: t("jobs.duration"),
      cell: (job) =>
        job.TrainingEndTime === undefined
          ? "–"
          : duration((job.TrainingEndTime.getTime() - job.CreationTime!.getTime()) / 1000),
    },
    {
      id: "status",
      header: t("jobs.status"),
      sortingField: "Status",
      cell: (job) => <Status status={job.TrainingJobStatus} />,
    },
  ];
  const name = selected?.TrainingJobName ?? "";
  return (
    <>
      {pages.error !== undefined && <Alert type="error" header={t("common.unanswered")}>{wording(pages.error)}</Alert>}
      <Table
        variant="full-page"
        stickyHeader
        trackBy="TrainingJobName"
        items={items}
        columnDefinitions={columns}
        loading={pages.loading}
        loadingText={t("common.loading")}
        selectionType="single"
        selectedItems={selected === undefined ? [] : [selected]}
        onSelectionChange={({ detail }) => setChosen(detail.selectedItems[0])}
        sortingColumn={{ sortingField: sort.by }}
        sortingDescending={sort.descending}
        onSortingChange={({ detail }) =>
          setSort({ by: detail.sortingColumn.sortingField as SortBy, descending: detail.isDescending ?? false })
        }
        ariaLabels={{
          tableLabel: t("jobs.title"),
          selectionGroupLabel: t("jobs.title"),
          itemSelectionLabel: (_, job) => job.TrainingJobName ?? "",
        }}
        header={
          <Header
            variant="awsui-h1-sticky"
            description={t("jobs.description")}
            actions={
              <SpaceBetween direction="horizontal" size="xs">
                <Button iconName="refresh" ariaLabel={t("common.refresh")} onClick={pages.refresh} />
                <ButtonDropdown
                  disabled={selected === undefined}
                  items={[
                    { id: "clone", text: t("jobs.clone") },
                    { id: "stop", text: t("jobs.stop"), disabled: selected?.TrainingJobStatus !== "InProgress" },
                    { id: "delete", text: t("common.delete"), disabled: !isOver(selected?.TrainingJobStatus) },
                  ]}
                  onItemClick={({ detail }) => {
                    if (detail.id === "clone") navigate(`/create-job/${name}`);
                    else setAsking({ what: detail.id as "stop" | "delete", name });
                  }}
                >
                  {t("common.actions")}
                </ButtonDropdown>
                <Button variant="primary" onClick={() => navigate("/create-job")}>{t("create.open")}</Button>
              </SpaceBetween>
            }
          >
            {t("jobs.title")}
          </Header>
        }
        filter={<JobFilter {...wanted} />}
        pagination={<Turner pages={pages} />}
        empty={
          <Box textAlign="center" padding="l">
            <SpaceBetween size="m">
              <b>{t(filtered ? "jobs.noMatch" : "jobs.none")}</b>
              {filtered ? (
                <Button onClick={() => { wanted.setTyped(""); wanted.setStatus(""); }}>{t("common.clear")}</Button>
              ) : (
                <Button onClick={() => navigate("/create-job")}>{t("create.open")}</Button>
              )}
            </SpaceBetween>
          </Box>
        }
      />
      {asking?.what === "stop" && <StopJob name={asking.name} close={() => { setAsking(undefined); pages.refresh(); }} />}
      {asking?.what === "delete" && <DeleteJob name={asking.name} close={() => { setAsking(undefined); pages.refresh(); }} />}
    </>
  );
}

export function StopJob({ name, close }: { name: string; close: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  return (
    <Ask
      title={t("jobs.stopTitle", { name })}
      text={t("jobs.stopText")}
      verb={t("jobs.stop")}
      close={close}
      act={async () => {
        await aws.sagemaker.send(new StopTrainingJobCommand({ TrainingJobName: name }));
        return t("jobs.stopping", { name });
      }}
    />
  );
}

export function DeleteJob({ name, close, done }: { name: string; close: () => void; done?: () => void }) {
  const { t } = useWords();
  const aws = useAws();
  return (
    <Ask
      title={t("jobs.deleteTitle", { name })}
      text={t("jobs.deleteText")}
      verb={t("common.delete")}
      close={close}
      done={done}
      act={async () => {
        await aws.sagemaker.send(new DeleteTrainingJobCommand({ TrainingJobName: name }));
        return t("jobs.deleted", { name });
      }}
    />
  );
}
