/** The logs of a job's instances, followed as they are written. */
import { DescribeLogStreamsCommand, GetLogEventsCommand, type OutputLogEvent } from "@aws-sdk/client-cloudwatch-logs";
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
import { wording } from "../aws/errors";
import { useWords } from "../i18n";

const GROUP = "/aws/sagemaker/TrainingJobs";
const FOLLOW_MILLISECONDS = 1500;
/** Lines that are kept on the page; of a longer log these are its last. */
const MOST_LINES = 5000;

interface Tail {
  stream: string;
  events: OutputLogEvent[];
  token?: string;
  cut: boolean;
}

export function Logs({ name, over }: { name: string; over: boolean }) {
  const { t, number } = useWords();
  const aws = useAws();
  const { value: streams = [] } = usePoll(
    async () => {
      const answer = await aws.logs.send(
        new DescribeLogStreamsCommand({ logGroupName: GROUP, logStreamNamePrefix: `${name}/` }),
      );
      return (answer.logStreams ?? []).map((stream) => stream.logStreamName!);
    },
    [aws, name, over],
    (found) => (over || found.length > 0 ? undefined : FOLLOW_MILLISECONDS),
  );
  const [chosen, setChosen] = useState<string>();
  const [follow, setFollow] = useState(true);
  const [find, setFind] = useState("");
  const stream = chosen ?? streams[0];
  const tail = useRef<Tail | undefined>(undefined);
  const { value: events = [], error, loading } = usePoll(
    async () => {
      if (stream === undefined) return [];
      if (tail.current?.stream !== stream) tail.current = { stream, events: [], cut: false };
      const before = tail.current;
      // Without a token the service answers with the end of the stream; the token goes on from there.
      const answer = await aws.logs.send(
        new GetLogEventsCommand({ logGroupName: GROUP, logStreamName: stream, nextToken: before.token, startFromHead: before.token !== undefined }),
      );
      const all = [...before.events, ...(answer.events ?? [])];
      const events = all.slice(-MOST_LINES);
      tail.current = { stream, events, token: answer.nextForwardToken, cut: before.cut || all.length > events.length };
      return events;
    },
    [aws, stream, over],
    () => (over ? undefined : FOLLOW_MILLISECONDS),
  );
  const view = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (follow && view.current !== null) view.current.scrollTop = view.current.scrollHeight;
  }, [events, follow]);
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
      {tail.current?.cut && <Box color="text-body-secondary">{t("logs.cut", { count: MOST_LINES })}</Box>}
      {shown.length === 0 ? (
        <Box color="text-body-secondary" padding="l" textAlign="center">
          {t(loading ? "common.loading" : over ? "logs.none" : "logs.notYet")}
        </Box>
      ) : (
        <pre className="log" ref={view} tabIndex={0} aria-label={t("logs.title")}>
          {shown.map((event, index) => (
            <div key={index}>
              <time>{new Date(event.timestamp!).toISOString().slice(11, 23)}</time>
              {event.message}
            </div>
          ))}
        </pre>
      )}
    </Container>
  );
}
