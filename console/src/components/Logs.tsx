/** The logs of a job's instances, followed as they are written. */
import { GetLogEventsCommand, type OutputLogEvent, paginateDescribeLogStreams } from "@aws-sdk/client-cloudwatch-logs";
import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Toggle from "@cloudscape-design/components/toggle";
import { useEffect, useRef, useState } from "react";
import { usePoll } from "../app/poll";
import { useAws } from "../app/session";
import type { Clients } from "../aws/clients";
import { wording } from "../aws/errors";
import { useWords } from "../i18n";
import { byNumber } from "../model/instances";

const GROUP = "/aws/sagemaker/TrainingJobs";
const FOLLOW_MILLISECONDS = 1500;
/** Lines that are kept on the page; of a longer log these are its last. */
const MOST_LINES = 5000;

interface Tail {
  stream: string;
  events: OutputLogEvent[];
  token?: string;
  /** Whether lines before these are left out. */
  cut: boolean;
  /** Whether nothing followed when it was last read. */
  ended: boolean;
}

export function Logs({ name, over }: { name: string; over: boolean }) {
  const { t, number, moment } = useWords();
  const aws = useAws();
  const { value: streams = [], ...listing } = usePoll(
    () => streamsOf(aws, name),
    [aws, name],
    () => (over ? undefined : FOLLOW_MILLISECONDS),
  );
  const [chosen, setChosen] = useState<string>();
  const [follow, setFollow] = useState(true);
  const [find, setFind] = useState("");
  const stream = chosen ?? streams[0];
  const read = useRef<Tail | undefined>(undefined);
  const { value: tail, ...reading } = usePoll(
    async () => {
      if (stream === undefined) return undefined;
      read.current = await readOn(aws, stream, read.current?.stream === stream ? read.current : undefined);
      return read.current;
    },
    [aws, stream],
    (found) => (over && (found?.ended ?? true) ? undefined : FOLLOW_MILLISECONDS),
  );
  const events = tail?.events ?? [];
  const error = listing.error ?? reading.error;
  const view = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (follow && view.current !== null) view.current.scrollTop = view.current.scrollHeight;
  }, [tail, follow]);
  const shown = find === "" ? events : events.filter((event) => event.message?.toLowerCase().includes(find.toLowerCase()));
  const host = (full: string) => full.split("/")[1]!.replace(/-\d+$/, "");
  return (
    <Container
      header={
        <Header
          variant="h2"
          counter={`(${number(shown.length)})`}
          actions={
            <SpaceBetween direction="horizontal" size="s" alignItems="center">
              <Toggle checked={follow} onChange={({ detail }) => setFollow(detail.checked)}>{t("logs.follow")}</Toggle>
              <Input type="search" value={find} placeholder={t("logs.find")} ariaLabel={t("logs.find")}
                clearAriaLabel={t("common.clear")} onChange={({ detail }) => setFind(detail.value)} />
              <Select
                selectedOption={stream === undefined ? null : { value: stream, label: host(stream) }}
                options={streams.map((value) => ({ value, label: host(value) }))}
                placeholder={t("logs.instance")}
                ariaLabel={t("logs.instance")}
                onChange={({ detail }) => setChosen(detail.selectedOption.value)}
              />
            </SpaceBetween>
          }
        >
          {t("logs.title")}
        </Header>
      }
    >
      {error !== undefined && <Alert type="error">{wording(error)}</Alert>}
      {tail?.cut && <Box color="text-body-secondary">{t("logs.cut", { count: events.length })}</Box>}
      {shown.length === 0 ? (
        <Box color="text-body-secondary" padding="l" textAlign="center">
          {t(listing.loading || reading.loading ? "common.loading" : events.length > 0 ? "logs.noMatch" : over ? "logs.none" : "logs.notYet")}
        </Box>
      ) : (
        <pre className="log" ref={view} tabIndex={0} aria-label={t("logs.title")}>
          {shown.map((event, index) => (
            <div key={index}>
              <time>{moment(event.timestamp)}</time>
              {event.message}
            </div>
          ))}
        </pre>
      )}
    </Container>
  );
}

/** The names of a job's log streams, one for each instance. */
async function streamsOf(aws: Clients, name: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of paginateDescribeLogStreams({ client: aws.logs }, { logGroupName: GROUP, logStreamNamePrefix: `${name}/` })) {
    found.push(...(page.logStreams ?? []).map((stream) => stream.logStreamName!));
  }
  return found.sort(byNumber);
}

/** The end of a stream; after `before`, with what has been written since. */
async function readOn(aws: Clients, stream: string, before: Tail | undefined): Promise<Tail> {
  const ask = (nextToken?: string, limit?: number) =>
    aws.logs.send(new GetLogEventsCommand({ logGroupName: GROUP, logStreamName: stream, nextToken, limit, startFromHead: before !== undefined }));
  const answer = await ask(before?.token);
  const cut = before?.cut ?? ((await ask(answer.nextBackwardToken, 1)).events ?? []).length > 0;
  const all = [...(before?.events ?? []), ...(answer.events ?? [])];
  const events = all.slice(-MOST_LINES);
  const token = answer.nextForwardToken;
  return { stream, events, token, cut: cut || all.length > events.length, ended: token === before?.token };
}
