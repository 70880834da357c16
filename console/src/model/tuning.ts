/** A tuning job as its form holds it, the request that it means, and what is drawn of its training jobs. */
import type {
  CreateHyperParameterTuningJobRequest,
  HyperParameterTrainingJobSummary,
  HyperParameterTuningJobStrategyType,
} from "@aws-sdk/client-sagemaker";
import type { Hyperparameter } from "./algorithms";
import {
  algorithmSpecification,
  builtin,
  clean,
  definition,
  type Draft,
  type Faults,
  faults as faultsOfDraft,
  hyperparameters,
  tagList,
} from "./draft";

export const STRATEGIES = ["Bayesian", "Random", "Hyperband", "Grid"] as const satisfies HyperParameterTuningJobStrategyType[];
export const SCALINGS = ["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] as const;
export const LONGEST_NAME = 32;

export interface Range {
  name: string;
  kind: "Integer" | "Continuous" | "Categorical";
  min: string;
  max: string;
  scaling: (typeof SCALINGS)[number];
  /** Of a categorical one, separated by commas. */
  values: string;
}

export interface Tuning {
  strategy: (typeof STRATEGIES)[number];
  objective: string;
  direction: "Maximize" | "Minimize";
  maxJobs: string;
  maxParallel: string;
  earlyStopping: boolean;
  seed: string;
  ranges: Range[];
}

export function emptyTuning(): Tuning {
  return {
    strategy: "Bayesian",
    objective: "validation:rmse",
    direction: "Minimize",
    maxJobs: "10",
    maxParallel: "2",
    earlyStopping: false,
    seed: "",
    ranges: [],
  };
}

/** The range that is proposed for a hyperparameter of an algorithm, or of nobody knows what. */
export function proposed(name: string, parameter: Hyperparameter | undefined): Range {
  const kind = parameter === undefined || parameter.kind === "FreeText" ? "Continuous" : parameter.kind;
  const [min, max] = parameter?.tune ?? [parameter?.min, parameter?.max];
  return {
    name,
    kind,
    min: String(min ?? ""),
    max: String(max ?? ""),
    scaling: "Auto",
    values: (parameter?.choices ?? []).join(", "),
  };
}

const valuesOf = (range: Range) => range.values.split(",").map((value) => value.trim()).filter((value) => value !== "");

export function tuningFaults(draft: Draft, tuning: Tuning): Faults {
  const tuned = new Set(tuning.ranges.map((range) => range.name));
  // What is tuned needs no value of its own.
  const found = Object.fromEntries(
    Object.entries(faultsOfDraft(draft, LONGEST_NAME)).filter(([field]) => !tuned.has(field.replace(/^hyperparameters\./, ""))),
  );
  const whole = (field: string, text: string, low: number, high: number, optional = false) => {
    if (optional && text === "") return;
    if (!/^\d+$/.test(text) || Number(text) < low || Number(text) > high) found[field] = { key: "fault.whole", values: { low, high } };
  };
  whole("maxJobs", tuning.maxJobs, 1, 750, tuning.strategy === "Grid");
  whole("maxParallel", tuning.maxParallel, 1, 100);
  whole("seed", tuning.seed, 0, 2 ** 31 - 1, true);
  if (tuning.objective === "") found.objective = { key: "fault.required" };
  if (tuning.ranges.length === 0) found.ranges = { key: "fault.ranges" };
  tuning.ranges.forEach((range, index) => {
    const fine =
      range.kind === "Categorical"
        ? valuesOf(range).length > 0
        : range.min !== "" && range.max !== "" && Number(range.min) <= Number(range.max);
    const twice = tuning.ranges.filter((other) => other.name === range.name).length > 1;
    if (!fine || range.name === "" || twice) found[`ranges.${index}`] = { key: "fault.tuned" };
    else if (tuning.strategy === "Grid" && range.kind !== "Categorical") found[`ranges.${index}`] = { key: "fault.grid" };
  });
  return found;
}

export function toTuningRequest(draft: Draft, tuning: Tuning): CreateHyperParameterTuningJobRequest {
  const numeric = (kind: Range["kind"]) =>
    tuning.ranges
      .filter((range) => range.kind === kind)
      .map(({ name, min, max, scaling }) => ({ Name: name, MinValue: min, MaxValue: max, ScalingType: scaling }));
  const own = builtin(draft)?.objectives.some(({ name }) => name === tuning.objective) ?? false;
  const tuned = new Set(tuning.ranges.map((range) => range.name));
  const fixed = Object.fromEntries(Object.entries(hyperparameters(draft)).filter(([name]) => !tuned.has(name)));
  const tags = tagList(draft);
  return clean({
    HyperParameterTuningJobName: draft.name,
    HyperParameterTuningJobConfig: {
      Strategy: tuning.strategy,
      HyperParameterTuningJobObjective: { Type: tuning.direction, MetricName: tuning.objective },
      ResourceLimits: {
        MaxNumberOfTrainingJobs: tuning.maxJobs === "" ? undefined : Number(tuning.maxJobs),
        MaxParallelTrainingJobs: Number(tuning.maxParallel),
      },
      ParameterRanges: {
        IntegerParameterRanges: numeric("Integer"),
        ContinuousParameterRanges: numeric("Continuous"),
        CategoricalParameterRanges: tuning.ranges
          .filter((range) => range.kind === "Categorical")
          .map((range) => ({ Name: range.name, Values: valuesOf(range) })),
      },
      TrainingJobEarlyStoppingType: tuning.earlyStopping ? ("Auto" as const) : ("Off" as const),
      RandomSeed: tuning.seed === "" ? undefined : Number(tuning.seed),
    },
    TrainingJobDefinition: {
      StaticHyperParameters: Object.keys(fixed).length === 0 ? undefined : fixed,
      AlgorithmSpecification: own ? { ...algorithmSpecification(draft), MetricDefinitions: undefined } : algorithmSpecification(draft),
      ...definition(draft),
    },
    Tags: tags.length === 0 ? undefined : tags,
  });
}

/** A training job of a tuning job, as charts have it. */
export interface Trial {
  name: string;
  objective: number;
  tuned: Record<string, string>;
}

export function trials(summaries: readonly HyperParameterTrainingJobSummary[]): Trial[] {
  return summaries.flatMap((summary) => {
    const objective = summary.FinalHyperParameterTuningJobObjectiveMetric?.Value;
    if (objective === undefined) return [];
    return [{ name: summary.TrainingJobName!, objective, tuned: summary.TunedHyperParameters ?? {} }];
  });
}

export interface Axis {
  name: string;
  /** Texts at the bottom and at the top of the axis. */
  low: string;
  high: string;
  /** Where a value is on the axis, from 0 to 1. */
  place: (text: string) => number;
}

/** An axis for each tuned hyperparameter, and the last one for the objective. Words are spread evenly, in order. */
export function axes(found: readonly Trial[], objective: string): Axis[] {
  const names = [...new Set(found.flatMap((trial) => Object.keys(trial.tuned)))].sort();
  const made = names.map((name) => axis(name, found.flatMap((trial) => trial.tuned[name] ?? [])));
  return [...made, axis(objective, found.map((trial) => String(trial.objective)))];
}

function axis(name: string, texts: string[]): Axis {
  const numbers = texts.map(Number);
  if (numbers.every(Number.isFinite)) {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    return { name, low: short(low), high: short(high), place: (text) => (high > low ? (Number(text) - low) / (high - low) : 0.5) };
  }
  const words = [...new Set(texts)].sort();
  const place = (text: string) => (words.length > 1 ? words.indexOf(text) / (words.length - 1) : 0.5);
  return { name, low: words[0]!, high: words.at(-1)!, place };
}

const short = (value: number) => String(Number(value.toPrecision(4)));
