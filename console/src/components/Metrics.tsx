import type { DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import Header from "@cloudscape-design/components/header";
import Table from "@cloudscape-design/components/table";
import { useWords } from "../i18n";

/** The metrics of a job. */
export function Metrics({ job, over }: { job: DescribeTrainingJobResponse; over: boolean }) {
  const { t, number, moment } = useWords();
  return (
    <Table
      header={<Header variant="h2">{t("metrics.final")}</Header>}
      ariaLabels={{ tableLabel: t("metrics.final") }}
      items={job.FinalMetricDataList ?? []}
      trackBy="MetricName"
      empty={t(over ? "metrics.none" : "metrics.notYet")}
      columnDefinitions={[
        { id: "name", header: t("form.metricName"), isRowHeader: true, cell: (metric) => metric.MetricName },
        { id: "value", header: t("form.value"), cell: (metric) => number(metric.Value ?? Number.NaN, 6) },
        { id: "at", header: t("metrics.at"), cell: (metric) => moment(metric.Timestamp) },
      ]}
    />
  );
}
