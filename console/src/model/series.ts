/** Time series of a job, as CloudWatch has them, and the charts that they make. */

export interface Metric {
  name: string;
  /** Host of an instance ("algo-1"); empty for the job's own metrics. */
  host: string;
}

export interface Series extends Metric {
  points: { x: Date; y: number }[];
}

export interface Chart {
  title: string;
  series: { title: string; points: Series["points"] }[];
}

/** Most points that a line of a chart is drawn with. */
const MOST_POINTS = 600;

/** The shortest period of CloudWatch, in seconds, that gives a line over `seconds` no more than MOST_POINTS. */
export function period(seconds: number): number {
  const least = seconds / MOST_POINTS;
  return [1, 5, 10, 30].find((each) => each >= least) ?? 60 * Math.ceil(least / 60);
}

/** From when to when a job has metrics, with a minute that is not over. A clock may be off: time always passes. */
export function span(created: Date, last: Date): [Date, Date] {
  return [created, new Date(Math.max(last.getTime(), created.getTime()) + 60_000)];
}

const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

/** How times from `first` to `last` are written so that they can be told apart: of more than a day with the date. */
export function clock(locale: string, first: Date, last: Date): Intl.DateTimeFormat {
  const dated = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" } as const;
  const long = last.getTime() - first.getTime() > DAY_MILLISECONDS;
  return new Intl.DateTimeFormat(locale, long ? dated : { timeStyle: "medium" });
}

/** One chart for metrics that differ in their channel alone ("train:auc", "validation:auc"), one for each use of instances. */
export function charts(series: readonly Series[]): Chart[] {
  const found = new Map<string, Chart>();
  for (const { name, host, points } of series) {
    // A single point is no line; the table of final values has it.
    if (points.length < 2) continue;
    const colon = host === "" ? name.indexOf(":") : -1;
    const [channel, rest] = colon < 0 ? [name, name] : [name.slice(0, colon), name.slice(colon + 1)];
    const chart = found.get(rest) ?? { title: rest, series: [] };
    chart.series.push({ title: host || channel, points });
    found.set(rest, chart);
  }
  return [...found.values()];
}
