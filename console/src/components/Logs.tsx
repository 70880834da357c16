/** The logs of a job's instances, followed as they are written. */
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
import { logStreams, readOn, type Tail } from "../aws/logs";
import { useWords } from "../i18n";

const FOLLOW_MILLISECONDS = 1500;
/** Height of a line (console.css): less than one from the end is the end. */
const LINE_PIXELS = 18;

export function Logs({ name, over }: { name: string; over: boolean }) {
  const { t, number, moment } = useWords();
  const aws = useAws();
  const { value: streams = [], ...listing } = usePoll(
    () => logStreams(aws.logs, name),
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
      read.current = await readOn(aws.logs, stream, read.current?.stream === stream ? read.current : undefined);
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
  }, [tail, follow, find]);
  const before = useRef(0);
  const scrolled = () => {
    const { scrollTop: top, scrollHeight, clientHeight } = view.current!;
    const atEnd = scrollHeight - top - clientHeight < LINE_PIXELS;
    // Whoever goes back to read is not taken away from there; whoever comes to the end follows again.
    if (top < before.current && !atEnd) setFollow(false);
    if (top > before.current && atEnd) setFollow(true);
    before.current = top;
  };
  const numbered = events.map((event, index) => ({ ...event, number: (tail?.first ?? 0) + index }));
  const shown = find === "" ? numbered : numbered.filter(({ message }) => message?.toLowerCase().includes(find.toLowerCase()));
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
        <pre className="log" ref={view} onScroll={scrolled} tabIndex={0} aria-label={t("logs.title")}>
          {shown.map(({ number, timestamp, message }) => (
            // Keyed by the line, so that the browser holds what is read in its place while lines before it go.
            <div key={number}>
              <time>{moment(timestamp)}</time>
              {message}
            </div>
          ))}
        </pre>
      )}
    </Container>
  );
}
