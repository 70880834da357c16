/** The log streams of training jobs. */
import {
  type CloudWatchLogsClient,
  GetLogEventsCommand,
  type OutputLogEvent,
  paginateDescribeLogStreams,
} from "@aws-sdk/client-cloudwatch-logs";
import { byNumber } from "../model/instances";

const GROUP = "/aws/sagemaker/TrainingJobs";
/** Lines that are kept; of a longer log these are its last. */
export const MOST_LINES = 5000;

/** The end of a stream. */
export interface Tail {
  stream: string;
  events: OutputLogEvent[];
  /** Which of the lines that were read the first of these is: it stays the same line's as long as the line is kept. */
  first: number;
  token?: string;
  /** Whether lines before these are left out. */
  cut: boolean;
  /** Whether nothing followed when it was last read. */
  ended: boolean;
}

/** The names of a job's streams, one for each instance, in the order of the instances. */
export async function logStreams(client: CloudWatchLogsClient, job: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of paginateDescribeLogStreams({ client }, { logGroupName: GROUP, logStreamNamePrefix: `${job}/` })) {
    found.push(...(page.logStreams ?? []).map((stream) => stream.logStreamName!));
  }
  return found.sort(byNumber);
}

/** The end of a stream, as much as the service puts on a page; after `before`, that with a page of what has been written since. */
export async function readOn(client: CloudWatchLogsClient, stream: string, before: Tail | undefined): Promise<Tail> {
  const ask = (nextToken?: string, limit?: number) =>
    client.send(new GetLogEventsCommand({ logGroupName: GROUP, logStreamName: stream, nextToken, limit, startFromHead: before !== undefined }));
  const answer = await ask(before?.token);
  const cut = before?.cut ?? ((await ask(answer.nextBackwardToken, 1)).events ?? []).length > 0;
  const all = [...(before?.events ?? []), ...(answer.events ?? [])];
  const events = all.slice(-MOST_LINES);
  const token = answer.nextForwardToken;
  const first = (before?.first ?? 0) + all.length - events.length;
  return { stream, events, first, token, cut: cut || all.length > events.length, ended: token === before?.token };
}
