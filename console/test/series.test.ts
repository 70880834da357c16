import { expect, test } from "vitest";
import { charts, period } from "../src/model/series";

const points = [0, 1].map((second) => ({ x: new Date(1000 * second), y: 1 }));

test("channels of one metric share a chart, and so do instances", () => {
  const drawn = charts([
    { name: "train:auc", host: "", points },
    { name: "validation:auc", host: "", points },
    { name: "loss", host: "", points },
    { name: "empty", host: "", points: points.slice(1) },
    { name: "CPUUtilization", host: "algo-1", points },
    { name: "CPUUtilization", host: "algo-2", points },
  ]);
  expect(drawn.map((chart) => [chart.title, chart.series.map((each) => each.title)])).toEqual([
    ["auc", ["train", "validation"]],
    ["loss", ["loss"]],
    ["CPUUtilization", ["algo-1", "algo-2"]],
  ]);
});

test.each([
  [60, 1],
  [600, 1],
  [601, 5],
  [18_000, 30],
  [18_001, 60],
  [86_400, 180],
])("%d s are read in periods of %d s", (seconds, length) => expect(period(seconds)).toBe(length));
