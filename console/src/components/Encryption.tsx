/** What was measured of a job's encryption: the instances as a graph, every pair in a table, and the signed report. */
import type { DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import Header from "@cloudscape-design/components/header";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Pagination from "@cloudscape-design/components/pagination";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import Table from "@cloudscape-design/components/table";
import { useState } from "react";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import { wording } from "../aws/errors";
import { useWords } from "../i18n";
import { explained, guardName } from "../i18n/said";
import { cipher, type Edge, graph, type Node, overhead, type Report, verdict } from "../model/evidence";
import { instanceCount } from "../model/instances";
import { Cost, type Estimate } from "./Cost";

const LIVE_MILLISECONDS = 2000;
const PAIRS_PER_PAGE = 20;
/** Instances up to which a picture says more than the table. */
const MOST_DRAWN = 40;

interface Answer {
  Signed: boolean;
  Report?: string;
  EstimatedCost?: Estimate;
}

export function Encryption({ job }: { job: DescribeTrainingJobResponse }) {
  const words = useWords();
  const { t, number, moment, bytes } = words;
  const aws = useAws();
  const name = job.TrainingJobName!;
  const { value: answer, error } = usePoll(
    () => aws.phalanx<Answer>("DescribeTrainingJobEncryption", { TrainingJobName: name }),
    [aws, name],
    ({ Signed }) => (Signed ? undefined : LIVE_MILLISECONDS),
  );
  if (answer === undefined) {
    return error === undefined ? (
      <StatusIndicator type="loading">{t("common.loading")}</StatusIndicator>
    ) : (
      <Alert type="error">{wording(error)}</Alert>
    );
  }
  if (answer.Report === undefined) return <Alert type="info">{t("encryption.notYet")}</Alert>;
  const report = JSON.parse(answer.Report) as Report;
  const several = instanceCount(job.ResourceConfig) > 1;
  const extra = overhead(report);
  const changes = report.instances.flatMap(({ host, guards }) => (guards?.changes ?? []).map((change) => ({ host, ...change })));
  const { type, text } = several ? verdict(report, answer.Signed) : ({ type: "info", text: "encryption.single" } as const);
  return (
    <SpaceBetween size="l">
      <Alert
        type={type}
        action={
          answer.Signed ? (
            <Button iconName="download" onClick={() => save(`${name}-evidence.json`, answer.Report!)}>
              {t("encryption.download")}
            </Button>
          ) : undefined
        }
      >
        {t(text)}
      </Alert>
      {report.pairs.length > 0 && report.instances.length <= MOST_DRAWN && <Graph report={report} />}
      <Container header={<Header variant="h2">{t("encryption.summary")}</Header>}>
        <SpaceBetween size="l">
          <KeyValuePairs
            columns={3}
            items={[
              { label: t("encryption.captured"), value: report.capture ? number(report.capture.clear) : "–" },
              { label: t("encryption.dropped"), value: number(report.plaintext_packets_dropped) },
              { label: t("encryption.espPackets"), value: number(report.router_guard?.esp_packets ?? 0) },
              { label: t("encryption.espBytes"), value: bytes(report.router_guard?.esp_bytes ?? 0) },
              { label: t("encryption.overhead"), value: extra === undefined ? "–" : t("unit.percent", { count: number(extra, 1) }) },
              { label: t("encryption.plane"), value: report.data_plane ?? "–" },
              { label: t("encryption.measured"), value: moment(report.measured_at) },
              {
                label: t("encryption.unwatched"),
                value: report.capture ? t("unit.seconds", { count: number(report.capture.milliseconds_away / 1000, 1) }) : "–",
              },
            ]}
          />
          {report.signature !== undefined && (
            <KeyValuePairs items={[{ label: t("encryption.signer"), value: <Box variant="code">{report.signature.public_key}</Box> }]} />
          )}
        </SpaceBetween>
      </Container>
      {report.instances.flatMap(({ host, interruptions }) =>
        interruptions.map((text) => (
          <Alert key={host + text} type="warning" header={t("encryption.interrupted", { host })}>{text}</Alert>
        )),
      )}
      {changes.length > 0 && (
        <ExpandableSection headerText={t("encryption.guards")}>
          {changes.map(({ host, at, held_by, cause }) => (
            <Box key={`${host} ${at} ${cause}`}>
              {[moment(at), host, held_by.map((name) => guardName(words, name)).join(" + ") || "–", explained(words, cause)].join(" · ")}
            </Box>
          ))}
        </ExpandableSection>
      )}
      {report.gaps.map((gap) => <Alert key={gap} type="warning" header={t("encryption.gap")}>{gap}</Alert>)}
      {report.pairs.length > 0 && <Pairs report={report} />}
      {(report.earlier_attempts ?? []).length > 0 && <EarlierAttempts attempts={report.earlier_attempts!} />}
      {several && <Cost job={job} estimate={answer.EstimatedCost} />}
    </SpaceBetween>
  );
}

/** Hands a text to the browser as a file; byte for byte, so that its signature holds. */
function save(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

const WIDTH = 760;

/** Instances up to which boxes of 132 × 72 have room beside each other on the ring; more of them are points. */
const MOST_BOXES = 10;

function Graph({ report }: { report: Report }) {
  const { t, bytes, duration } = useWords();
  const [shown, setShown] = useState<string>();
  const { nodes, edges } = graph(report);
  const boxes = nodes.length <= MOST_BOXES;
  const height = !boxes ? 480 : nodes.length > 2 ? 420 : 150;
  const [across, down] = boxes ? [WIDTH / 2 - 90, height / 2 - 50] : [height / 2 - 80, height / 2 - 80];
  const x = (value: number) => WIDTH / 2 + value * across;
  const y = (value: number) => height / 2 + value * down;
  const thin = boxes ? 1 : 6 / nodes.length;
  const most = Math.max(...edges.map((edge) => edge.bytes), 1);
  const labelled = edges.length <= 6;
  const words = (edge: Edge) =>
    t("graph.edge", {
      one: edge.from.host,
      other: edge.to.host,
      cipher: cipher(edge.pairs[0]!),
      sent: bytes(edge.pairs[0]!.bytes),
      back: bytes(edge.pairs[1]?.bytes ?? 0),
    });
  const broken = edges.filter((edge) => !edge.established);
  const spoken = boxes
    ? edges.map(words).join(" ")
    : t("graph.many", { instances: nodes.length, connections: edges.length, broken: broken.length });
  return (
    <Container header={<Header variant="h2" description={t("graph.hint")}>{t("graph.title")}</Header>}>
      <svg className="graph" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={spoken}>
        {[...edges.filter((edge) => edge.established), ...broken].map((edge) => (
          <line key={edge.from.host + edge.to.host} className={edge.established ? "edge" : "edge broken"}
            x1={x(edge.from.x)} y1={y(edge.from.y)} x2={x(edge.to.x)} y2={y(edge.to.y)} strokeWidth={Math.max(thin * (2 + (6 * edge.bytes) / most), edge.established ? 0 : 2)}
            onMouseEnter={() => setShown(words(edge))} onMouseLeave={() => setShown(undefined)} />
        ))}
        {labelled && edges.map((edge) => {
          const [middle, height] = [(x(edge.from.x) + x(edge.to.x)) / 2, (y(edge.from.y) + y(edge.to.y)) / 2];
          const age = edge.pairs[0]!.key_age_seconds;
          return (
            <text key={edge.from.host + edge.to.host} className="label" y={height} textAnchor="middle">
              <tspan x={middle} dy="-2.2em">{cipher(edge.pairs[0]!)}</tspan>
              <tspan x={middle} dy="1.4em">{`→ ${bytes(edge.pairs[0]!.bytes)} · ← ${bytes(edge.pairs[1]?.bytes ?? 0)}`}</tspan>
              {age !== null && age !== undefined && (
                <tspan x={middle} dy="2.2em">{t("graph.keys", { age: duration(age) })}</tspan>
              )}
            </text>
          );
        })}
        {!boxes && nodes.map((node) => <Point key={node.host} node={node} x={x(node.x)} y={y(node.y)} show={setShown} />)}
        {boxes && nodes.map((node) => (
          <g key={node.host} className="node">
            <rect x={x(node.x) - 66} y={y(node.y) - 36} width={132} height={72} rx={8} />
            <text x={x(node.x)} y={y(node.y)} textAnchor="middle">
              <tspan x={x(node.x)} dy="-0.9em">{node.host}</tspan>
              <tspan x={x(node.x)} dy="1.5em" className="address">{node.address}</tspan>
              {node.blocked !== undefined && (
                <tspan x={x(node.x)} dy="1.4em" className="address">{t("graph.blocked", { count: node.blocked })}</tspan>
              )}
            </text>
          </g>
        ))}
      </svg>
      <Box color="text-body-secondary" textAlign="center">
        {shown ?? t("graph.dropped", { count: report.plaintext_packets_dropped })}
      </Box>
    </Container>
  );
}

/** An instance among many: its name leads away from the ring, and how many packets in the clear it stopped, if it did. */
function Point({ node, x, y, show }: { node: Node; x: number; y: number; show: (words: string | undefined) => void }) {
  const { t, number } = useWords();
  const left = node.x < -1e-9;
  const angle = (Math.atan2(node.y, node.x) * 180) / Math.PI + (left ? 180 : 0);
  const blocked = node.blocked === undefined ? [] : [t("graph.blocked", { count: node.blocked })];
  return (
    <g className="node" onMouseEnter={() => show([node.host, node.address, ...blocked].join(" · "))} onMouseLeave={() => show(undefined)}>
      <circle cx={x} cy={y} r={6} />
      <text transform={`translate(${x} ${y}) rotate(${angle})`} x={left ? -12 : 12} dy="0.35em" textAnchor={left ? "end" : "start"}>
        {node.host}
        {(node.blocked ?? 0) > 0 && ` (${number(node.blocked!)})`}
      </text>
    </g>
  );
}

/** What was measured at the instances that the job had before. */
function EarlierAttempts({ attempts }: { attempts: Report[] }) {
  const { t, number, moment, bytes } = useWords();
  const numbered = attempts.map((report, index) => ({ report, attempt: index + 1 }));
  return (
    <Table
      header={<Header variant="h2" counter={`(${number(attempts.length)})`}>{t("attempts.title")}</Header>}
      ariaLabels={{ tableLabel: t("attempts.title") }}
      items={numbered}
      trackBy={({ attempt }) => String(attempt)}
      columnDefinitions={[
        { id: "attempt", header: t("attempts.number"), isRowHeader: true, cell: ({ attempt }) => number(attempt) },
        { id: "measured", header: t("encryption.measured"), cell: ({ report }) => moment(report.measured_at) },
        { id: "plane", header: t("encryption.plane"), cell: ({ report }) => report.data_plane ?? "–" },
        { id: "sent", header: t("pairs.bytes"), cell: ({ report }) => bytes(report.pairs.reduce((sum, pair) => sum + pair.bytes, 0)) },
        {
          id: "captured",
          header: t("encryption.captured"),
          cell: ({ report }) => (report.capture ? number(report.capture.clear) : "–"),
        },
        { id: "dropped", header: t("encryption.dropped"), cell: ({ report }) => number(report.plaintext_packets_dropped) },
        { id: "gaps", header: t("encryption.gap"), cell: ({ report }) => report.gaps.join(" ") || "–" },
      ]}
    />
  );
}

function Pairs({ report }: { report: Report }) {
  const { t, number, bytes, duration } = useWords();
  const [page, setPage] = useState(1);
  const shown = report.pairs.slice((page - 1) * PAIRS_PER_PAGE, page * PAIRS_PER_PAGE);
  const pages = Math.ceil(report.pairs.length / PAIRS_PER_PAGE);
  return (
    <Table
      header={<Header variant="h2" counter={`(${number(report.pairs.length)})`}>{t("pairs.title")}</Header>}
      ariaLabels={{ tableLabel: t("pairs.title") }}
      items={shown}
      trackBy={(pair) => `${pair.local}/${pair.remote}`}
      pagination={
        pages > 1 && <Pagination currentPageIndex={page} pagesCount={pages} onChange={({ detail }) => setPage(detail.currentPageIndex)} />
      }
      columnDefinitions={[
        { id: "way", header: t("pairs.way"), isRowHeader: true, cell: (pair) => `${pair.local} → ${pair.remote}` },
        {
          id: "state",
          header: t("pairs.state"),
          cell: (pair) => (
            <StatusIndicator type={pair.established ? "success" : "error"}>
              {t(pair.established ? "pairs.stands" : "pairs.broken")}
            </StatusIndicator>
          ),
        },
        { id: "cipher", header: t("pairs.cipher"), cell: (pair) => cipher(pair) + (pair.esn ? " · ESN" : "") },
        {
          id: "age",
          header: t("pairs.age"),
          cell: (pair) => (pair.key_age_seconds === null || pair.key_age_seconds === undefined ? "–" : duration(pair.key_age_seconds)),
        },
        { id: "rekeys", header: t("pairs.rekeys"), cell: (pair) => number(pair.rekeys) },
        { id: "packets", header: t("pairs.packets"), cell: (pair) => number(pair.packets) },
        { id: "bytes", header: t("pairs.bytes"), cell: (pair) => bytes(pair.bytes) },
        {
          id: "received",
          header: t("pairs.received"),
          cell: (pair) => (pair.bytes_received === null ? t("pairs.unmeasured") : bytes(pair.bytes_received)),
        },
        { id: "spi", header: t("pairs.spi"), cell: (pair) => pair.spi || "–" },
        { id: "ike", header: t("pairs.ike"), cell: (pair) => pair.ike + (pair.ppk ? " · PPK" : "") },
      ]}
    />
  );
}
