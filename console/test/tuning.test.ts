import { expect, test } from "vitest";
import { ALGORITHMS } from "../src/model/algorithms";
import { CHANNEL, emptyDraft } from "../src/model/draft";
import { axes, emptyTuning, proposed, toTuningRequest, trials, tuningFaults } from "../src/model/tuning";

const draft = {
  ...emptyDraft("123456789012", "us-west-2"),
  name: "tune",
  encrypt: true,
  channels: [{ ...CHANNEL, uri: "s3://bucket/train/" }],
};
const parameter = (name: string) => ALGORITHMS[0]!.hyperparameters.find((each) => each.name === name);
const ranges = ["eta", "num_round", "booster"].map((name) => proposed(name, parameter(name)));

test("what is tuned is not fixed, and each range is of its kind", () => {
  const request = toTuningRequest(draft, { ...emptyTuning(), ranges });
  expect(request.HyperParameterTuningJobConfig?.ParameterRanges).toEqual({
    ContinuousParameterRanges: [{ Name: "eta", MinValue: "0.1", MaxValue: "0.5", ScalingType: "Auto" }],
    IntegerParameterRanges: [{ Name: "num_round", MinValue: "1", MaxValue: "4000", ScalingType: "Auto" }],
    CategoricalParameterRanges: [{ Name: "booster", Values: ["gbtree", "gblinear", "dart"] }],
  });
  expect(request.TrainingJobDefinition?.StaticHyperParameters).toBeUndefined();
  expect(request.TrainingJobDefinition?.EnableInterContainerTrafficEncryption).toBe(true);
});

test("faults are told by field", () => {
  const fields = (change: object, name = "tune") =>
    Object.keys(tuningFaults({ ...draft, name }, { ...emptyTuning(), ranges, ...change }));
  expect(fields({})).toEqual([]);
  expect(fields({}, "x".repeat(33))).toEqual(["name"]);
  expect(fields({ maxParallel: "0", maxJobs: "751" })).toEqual(["maxJobs", "maxParallel"]);
  expect(fields({ ranges: [] })).toEqual(["ranges"]);
  expect(fields({ ranges: [{ ...ranges[0]!, min: "2", max: "1" }] })).toEqual(["ranges.0"]);
  expect(fields({ ranges: [ranges[0]!, ranges[0]!] })).toEqual(["ranges.0", "ranges.1"]);
  expect(fields({ strategy: "Grid" })).toEqual(["ranges.0", "ranges.1"]);
});

test("axes hold numbers and words, and the objective is the last", () => {
  const done = trials([
    { TrainingJobName: "a", TunedHyperParameters: { eta: "0.1", booster: "gbtree" }, FinalHyperParameterTuningJobObjectiveMetric: { Value: 1 } },
    { TrainingJobName: "b", TunedHyperParameters: { eta: "0.3", booster: "dart" }, FinalHyperParameterTuningJobObjectiveMetric: { Value: 3 } },
    { TrainingJobName: "c", TunedHyperParameters: { eta: "0.2", booster: "dart" } },
  ] as never);
  expect(done.map((trial) => trial.name)).toEqual(["a", "b"]);
  const found = axes(done, "loss");
  expect(found.map(({ name, low, high }) => [name, low, high])).toEqual([
    ["booster", "dart", "gbtree"],
    ["eta", "0.1", "0.3"],
    ["loss", "1", "3"],
  ]);
  expect([found[0]!.place("gbtree"), found[1]!.place("0.3"), found[2]!.place("1")]).toEqual([1, 1, 0]);
});
