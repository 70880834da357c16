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
