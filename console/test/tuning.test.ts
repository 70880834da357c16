import { expect, test } from "vitest";
import { ALGORITHMS } from "../src/model/algorithms";
import { CHANNEL, emptyDraft } from "../src/model/draft";
import { axes, emptyTuning, fromTuning, proposed, searched, toTuningRequest, trials, tuningFaults } from "../src/model/tuning";

const draft = {
  ...emptyDraft("123456789012", "us-west-2"),
  name: "tune",
  encrypt: true,
  channels: [{ ...CHANNEL, uri: "s3://bucket/train/" }],
};
const parameter = (name: string) => ALGORITHMS[0]!.hyperparameters.find((each) => each.name === name);
const ranges = ["eta", "num_round", "booster"].map((name) => proposed(name, parameter(name)));

test("what is tuned is not fixed, and each range is of its kind", () => {
  const request = toTuningRequest(draft, { ...emptyTuning(ALGORITHMS[0]), ranges });
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
    Object.keys(tuningFaults({ ...draft, name }, { ...emptyTuning(ALGORITHMS[0]), ranges, ...change }));
  expect(fields({})).toEqual([]);
  expect(fields({}, "x".repeat(33))).toEqual(["name"]);
  expect(fields({ maxParallel: "0", maxJobs: "751" })).toEqual(["maxJobs", "maxParallel"]);
  expect(fields({ ranges: [] })).toEqual(["ranges"]);
  expect(fields({ ranges: [{ ...ranges[0]!, min: "2", max: "1" }] })).toEqual(["ranges.0"]);
  expect(fields({ ranges: [ranges[0]!, ranges[0]!] })).toEqual(["ranges.0", "ranges.1"]);
  expect(fields({ strategy: "Grid" })).toEqual(["ranges.0", "ranges.1"]);
  expect(fields({ strategy: "Hyperband" })).toEqual(["maxResource"]);
  expect(fields({ strategy: "Hyperband", minResource: "9", maxResource: "9" })).toEqual(["minResource"]);
  expect(fields({ target: "low", notImproving: "2", maxRuntime: "60" })).toEqual(["tuning.maxRuntime", "notImproving", "target"]);
  expect(fields({ ranges: [{ ...ranges[0]!, kind: "Auto" }] })).toEqual(["ranges.0"]);
});

test("the form begins with an objective and a range of the algorithm", () => {
  expect(searched(ALGORITHMS[0])).toMatchObject({ objective: "validation:rmse", direction: "Minimize", ranges: [{ name: "eta" }] });
  expect(searched(undefined)).toEqual({ objective: "", direction: "Minimize", ranges: [] });
});

test("a described tuning job becomes the form that creates it again", () => {
  const request = toTuningRequest(
    { ...draft, vpc: "vpc-1", subnets: ["subnet-1"], groups: ["sg-1"], hyperparameters: { max_depth: "3" } },
    {
      ...emptyTuning(ALGORITHMS[0]),
      ranges: [
        ...ranges,
        { ...ranges[0]!, name: "gamma", kind: "Auto", min: "1" },
        { ...ranges[2]!, name: "interaction_constraints", values: "(1,0)\n(0,1)\n" },
      ],
      strategy: "Hyperband",
      maxResource: "20",
      maxRuntime: "600",
      target: "0.1",
      notImproving: "5",
      convergence: true,
      autotune: true,
      parents: ["before"],
      warmStart: "TransferLearning",
      seed: "0",
    },
  );
  expect(request.WarmStartConfig).toEqual({
    ParentHyperParameterTuningJobs: [{ HyperParameterTuningJobName: "before" }],
    WarmStartType: "TransferLearning",
  });
  const told = { ...request.TrainingJobDefinition, StaticHyperParameters: { max_depth: "3", _tuning_objective_metric: "validation:rmse" } };
  const copy = fromTuning({ ...request, TrainingJobDefinition: told } as never, "vpc-1", [], "123456789012", "us-west-2");
  expect(request.HyperParameterTuningJobConfig?.ParameterRanges?.CategoricalParameterRanges?.[1]?.Values).toEqual(["(1,0)", "(0,1)"]);
  expect(toTuningRequest(copy.draft, copy.tuning)).toEqual({ ...request, HyperParameterTuningJobName: "tune-2" });
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
