/** The metrics of a job as charts, and their final values. */
import { GetMetricDataCommand, ListMetricsCommand } from "@aws-sdk/client-cloudwatch";
import type { DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Container from "@cloudscape-design/components/container";
import Grid from "@cloudscape-design/components/grid";
import Header from "@cloudscape-design/components/header";
import LineChart from "@cloudscape-design/components/line-chart";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { wording } from "../aws/errors";
import { useWords } from "../i18n";
import { instanceCount } from "../model/instances";
import { type Chart, charts, clock, type Metric, period, type Series, span } from "../model/series";

const NAMESPACE = "/aws/sagemaker/TrainingJobs";
const LIVE_MILLISECONDS = 3000;
/** Instances whose use of the machine is charted; more lines than these nobody can tell apart. */
const MOST_HOSTS = 8;
const USES = ["CPUUtilization", "MemoryUtilization"];

export function Metrics({ job, over }: { job: DescribeTrainingJobResponse; over: boolean }) {
  const { t, measured, moment } = useWords();
  const aws = useAws();
  const { value: found = [], error } = usePoll(
    () => series(aws, job),
    [aws, job.TrainingJobName],
    () => (over ? undefined : LIVE_MILLISECONDS),
  );
  const drawn = charts(found);
  return (
    <SpaceBetween size="l">
      {error !== undefined && <Alert type="error">{wording(error)}</Alert>}
      {drawn.length > 0 && (
        <Grid gridDefinition={drawn.map(() => ({ colspan: { default: 12, s: 6 } }))}>
          {drawn.map((chart) => <Drawn key={chart.title} chart={chart} />)}
        </Grid>
      )}
      <Table
        header={<Header variant="h2">{t("metrics.final")}</Header>}
        ariaLabels={{ tableLabel: t("metrics.final") }}
        items={job.FinalMetricDataList ?? []}
        trackBy="MetricName"
        empty={t(over ? "metrics.none" : "metrics.notYet")}
        columnDefinitions={[
          { id: "name", header: t("form.metricName"), isRowHeader: true, cell: (metric) => metric.MetricName },
          { id: "value", header: t("form.value"), cell: (metric) => measured(metric.Value ?? Number.NaN) },
          { id: "at", header: t("metrics.at"), cell: (metric) => moment(metric.Timestamp) },
        ]}
      />
    </SpaceBetween>
  );
}

function Drawn({ chart }: { chart: Chart }) {
  const { t, measured, locale } = useWords();
  const times = chart.series.flatMap((each) => each.points.map((point) => point.x.getTime()));
  const [first, last] = [new Date(Math.min(...times)), new Date(Math.max(...times, Math.min(...times) + 1000))];
  const written = clock(locale, first, last);
  return (
    <Container header={<Header variant="h3">{chart.title}</Header>}>
      <LineChart
        series={chart.series.map((each) => ({
          type: "line",
          title: each.title,
          data: each.points,
          valueFormatter: (value: number) => measured(value),
        }))}
        xDomain={[first, last]}
        xScaleType="time"
        xTickFormatter={(time) => written.format(time)}
        yTickFormatter={(value) => measured(value)}
        xTitle={t("metrics.at")}
        height={180}
        hideFilter
        ariaLabel={chart.title}
      />
    </Container>
  );
}

/** The series of a job's own metrics and of what its instances used. */
async function series(aws: Clients, job: DescribeTrainingJobResponse): Promise<Series[]> {
  const name = job.TrainingJobName!;
  const own = await aws.cloudwatch.send(
    new ListMetricsCommand({ Namespace: NAMESPACE, Dimensions: [{ Name: "TrainingJobName", Value: name }] }),
  );
  const hosts = Math.min(instanceCount(job.ResourceConfig), MOST_HOSTS);
  const metrics: Metric[] = [
    ...(own.Metrics ?? []).map((metric) => ({ name: metric.MetricName!, host: "" })),
    ...USES.flatMap((use) => Array.from({ length: hosts }, (_, index) => ({ name: use, host: `algo-${index + 1}` }))),
  ];
  const [start, end] = span(job.CreationTime!, job.TrainingEndTime ?? aws.now());
  const answer = await aws.cloudwatch.send(
    new GetMetricDataCommand({
      StartTime: start,
      EndTime: end,
      ScanBy: "TimestampAscending",
      MetricDataQueries: metrics.map((metric, index) => ({
        Id: `m${index}`,
        MetricStat: {
          Metric: {
            Namespace: NAMESPACE,
            MetricName: metric.name,
            Dimensions: [
              metric.host === "" ? { Name: "TrainingJobName", Value: name } : { Name: "Host", Value: `${name}/${metric.host}` },
            ],
          },
          Period: period((end.getTime() - start.getTime()) / 1000),
          Stat: "Average",
        },
      })),
    }),
  );
  return metrics.map((metric, index) => {
    const data = answer.MetricDataResults?.find((result) => result.Id === `m${index}`);
    return { ...metric, points: (data?.Timestamps ?? []).map((x, at) => ({ x, y: data!.Values![at]! })) };
  });
}
