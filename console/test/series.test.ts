import { expect, test } from "vitest";
import { charts, clock, period, span } from "../src/model/series";

const points = [0, 1].map((second) => ({ x: new Date(1000 * second), y: 1 }));

test("channels of one metric share a chart, and so do instances", () => {
  const drawn = charts([
    { name: "train:auc", host: "", points },
    { name: "validation:auc", host: "", points },
    { name: "loss", host: "", points },
    { name: "validation:map:a", host: "", points },
    { name: "validation:map:b", host: "", points },
    { name: "empty", host: "", points: points.slice(1) },
    { name: "CPUUtilization", host: "algo-1", points },
    { name: "CPUUtilization", host: "algo-2", points },
  ]);
  expect(drawn.map((chart) => [chart.title, chart.series.map((each) => each.title)])).toEqual([
    ["auc", ["train", "validation"]],
    ["loss", ["loss"]],
    ["map:a", ["validation"]],
    ["map:b", ["validation"]],
    ["CPUUtilization", ["algo-1", "algo-2"]],
  ]);
});

test("time passes from a job's creation on, whatever the clock says", () => {
  const created = new Date("2026-01-01T01:00:00Z");
  const ends = ["2026-01-01T00:00:00Z", "2026-01-01T01:10:00Z"].map((now) => span(created, new Date(now)));
  expect(ends).toEqual([
    [created, new Date("2026-01-01T01:01:00Z")],
    [created, new Date("2026-01-01T01:11:00Z")],
  ]);
});

test("times of more than a day are told apart by their dates", () => {
  const first = new Date("2026-01-01T12:00:00Z");
  const written = (hours: number) => {
    const format = clock("en", first, new Date(first.getTime() + 3_600_000 * hours));
    return [first, new Date(first.getTime() + 86_400_000)].map((time) => format.format(time));
  };
  expect(new Set(written(72)).size).toBe(2);
  expect(written(2)[0]).toMatch(/:00:00/);
});

test.each([
  [60, 1],
  [600, 1],
  [601, 5],
  [18_000, 30],
  [18_001, 60],
  [86_400, 180],
])("%d s are read in periods of %d s", (seconds, length) => expect(period(seconds)).toBe(length));
