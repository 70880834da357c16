import { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { expect, test } from "vitest";
import { logStreams, MOST_LINES, readOn } from "../src/aws/logs";

/** A client that `answer` answers, given the members of each request. */
function client(answer: (members: Record<string, unknown>) => object): CloudWatchLogsClient {
  return Object.assign(new CloudWatchLogsClient({ region: "us-west-2" }), { send: async (command: { input: never }) => answer(command.input) });
}

test("a job's streams are all found, in the order of its instances", async () => {
  const pages: Record<string, object> = {
    first: { logStreams: [{ logStreamName: "job/algo-1-17" }, { logStreamName: "job/algo-10-17" }], nextToken: "second" },
    second: { logStreams: [{ logStreamName: "job/algo-2-17" }] },
  };
  const found = await logStreams(client(({ nextToken }) => pages[String(nextToken ?? "first")]!), "job");
  expect(found).toEqual(["job/algo-1-17", "job/algo-2-17", "job/algo-10-17"]);
});

test("a log is read from its end on, and it is known what is left out", async () => {
  const lines = Array.from({ length: 3 }, (_, index) => ({ message: `${index}` }));
  /** Two lines a page; tokens are places between lines. */
  const logs = client(({ nextToken, limit }) => {
    const [direction, place] = nextToken === undefined ? ["b", lines.length] : [String(nextToken)[0], Number(String(nextToken).slice(1))];
    const size = Number(limit ?? 2);
    const [from, to] = direction === "f" ? [place, Math.min(place + size, lines.length)] : [Math.max(place - size, 0), place];
    return { events: lines.slice(from, to), nextForwardToken: `f${to}`, nextBackwardToken: `b${from}` };
  });
  const texts = (tail: Awaited<ReturnType<typeof readOn>>) => tail.events.map(({ message }) => message);
  const first = await readOn(logs, "stream", undefined);
  expect([texts(first), first.cut, first.ended]).toEqual([["1", "2"], true, false]);
  lines.push({ message: "3" });
  const second = await readOn(logs, "stream", first);
  expect([texts(second), second.first, second.cut, second.ended]).toEqual([["1", "2", "3"], 0, true, false]);
  expect((await readOn(logs, "stream", second)).ended).toBe(true);

  lines.splice(2);
  const whole = await readOn(logs, "stream", undefined);
  expect([texts(whole), whole.cut]).toEqual([["0", "1"], false]);
  const full = { ...whole, events: Array.from({ length: MOST_LINES }, () => ({ message: "" })) };
  lines.push({ message: "2" });
  const last = await readOn(logs, "stream", full);
  expect([last.events.length, last.events.at(-1), last.first, last.cut]).toEqual([MOST_LINES, { message: "2" }, 1, true]);
});
