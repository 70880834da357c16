/** A tuning job as its form holds it, the request that it means, and what is drawn of its training jobs. */
import type {
  CreateHyperParameterTuningJobRequest,
  DescribeHyperParameterTuningJobResponse,
  DescribeTrainingJobResponse,
  HyperParameterTrainingJobSummary,
  HyperParameterTuningJobStrategyType,
} from "@aws-sdk/client-sagemaker";
import type { Algorithm, Hyperparameter } from "./algorithms";
import {
  algorithmIn,
  algorithmSpecification,
  clean,
  definition,
  type Draft,
  type Faults,
  faults as faultsOfDraft,
  fromDescription,
  hyperparameters,
  nextName,
  type Pair,
  tagList,
} from "./draft";
import { tuningRequestOf } from "./request";

export const STRATEGIES = ["Bayesian", "Random", "Hyperband", "Grid"] as const satisfies HyperParameterTuningJobStrategyType[];
export const SCALINGS = ["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] as const;
export const LONGEST_NAME = 32;
export const WARM_STARTS = ["IdenticalDataAndAlgorithm", "TransferLearning"] as const;
/** Most parents of a warm start. */
export const MOST_PARENTS = 5;

export interface Range {
  name: string;
  /** Auto: the service chooses the range around a value (`min`), which Autotune alone allows. */
  kind: "Integer" | "Continuous" | "Categorical" | "Auto";
  min: string;
  max: string;
  scaling: (typeof SCALINGS)[number];
  /** Of a categorical one, one a line. */
  values: string;
}

export interface Tuning {
  strategy: (typeof STRATEGIES)[number];
  objective: string;
  direction: "Maximize" | "Minimize";
  maxJobs: string;
  maxParallel: string;
  maxRuntime: string;
  earlyStopping: boolean;
  seed: string;
  /** Of Hyperband: least and most epochs of a training job. */
  minResource: string;
  maxResource: string;
  /** What ends the tuning job early: an objective that is good enough, so many jobs that are no better, or convergence. */
  target: string;
  notImproving: string;
  convergence: boolean;
  autotune: boolean;
  ranges: Range[];
  /** Names of the tuning jobs that this one goes on from. */
  parents: string[];
  warmStart: (typeof WARM_STARTS)[number];
}

/** What the form of a tuning job begins with: the algorithm's first objective, and one of its hyperparameters. */
export function emptyTuning(algorithm?: Algorithm): Tuning {
  return {
    strategy: "Bayesian",
    ...searched(algorithm),
    maxJobs: "10",
    maxParallel: "2",
    maxRuntime: "",
    earlyStopping: false,
    seed: "",
    minResource: "1",
    maxResource: "",
    target: "",
    notImproving: "",
    convergence: false,
    autotune: false,
    parents: [],
    warmStart: "IdenticalDataAndAlgorithm",
  };
}

/** What depends on the algorithm. */
export function searched(algorithm: Algorithm | undefined): Pick<Tuning, "objective" | "direction" | "ranges"> {
  const tunable = algorithm?.hyperparameters.filter(({ tune }) => tune !== undefined) ?? [];
  const first = tunable.find(({ kind }) => kind === "Continuous") ?? tunable[0];
  return {
    objective: algorithm?.objectives[0]?.name ?? "",
    direction: algorithm?.objectives[0]?.type ?? "Minimize",
    ranges: first === undefined ? [] : [proposed(first.name, first)],
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
    values: (parameter?.choices ?? []).join("\n"),
  };
}

const valuesOf = (range: Range) => range.values.split("\n").map((value) => value.trim()).filter((value) => value !== "");

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
  whole("maxParallel", tuning.maxParallel, 1, 10);
  whole("tuning.maxRuntime", tuning.maxRuntime, 120, 15_768_000, true);
  whole("seed", tuning.seed, 0, 2 ** 31 - 1, true);
  whole("notImproving", tuning.notImproving, 3, 750, true);
  if (tuning.target !== "" && !Number.isFinite(Number(tuning.target))) found.target = { key: "fault.number" };
  if (tuning.strategy === "Hyperband") {
    whole("maxResource", tuning.maxResource, 2, 20_000);
    whole("minResource", tuning.minResource, 1, Math.max(Number(tuning.maxResource) - 1, 1));
  }
  if (tuning.objective === "") found.objective = { key: "fault.required" };
  if (tuning.ranges.length === 0) found.ranges = { key: "fault.ranges" };
  tuning.ranges.forEach((range, index) => {
    const fine =
      range.kind === "Categorical"
        ? valuesOf(range).length > 0
        : range.kind === "Auto"
          ? tuning.autotune && range.min !== ""
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
  const own = algorithmIn(draft)?.objectives.some(({ name }) => name === tuning.objective) ?? false;
  const tuned = new Set(tuning.ranges.map((range) => range.name));
  const fixed = Object.fromEntries(Object.entries(hyperparameters(draft)).filter(([name]) => !tuned.has(name)));
  const auto = tuning.ranges.filter((range) => range.kind === "Auto").map(({ name, min }) => ({ Name: name, ValueHint: min }));
  const tags = tagList(draft);
  return clean({
    HyperParameterTuningJobName: draft.name,
    HyperParameterTuningJobConfig: {
      Strategy: tuning.strategy,
      HyperParameterTuningJobObjective: { Type: tuning.direction, MetricName: tuning.objective },
      ResourceLimits: {
        MaxNumberOfTrainingJobs: tuning.maxJobs === "" ? undefined : Number(tuning.maxJobs),
        MaxParallelTrainingJobs: Number(tuning.maxParallel),
        MaxRuntimeInSeconds: tuning.maxRuntime === "" ? undefined : Number(tuning.maxRuntime),
      },
      StrategyConfig:
        tuning.strategy === "Hyperband"
          ? { HyperbandStrategyConfig: { MinResource: Number(tuning.minResource), MaxResource: Number(tuning.maxResource) } }
          : undefined,
      TuningJobCompletionCriteria: some({
        TargetObjectiveMetricValue: tuning.target === "" ? undefined : Number(tuning.target),
        BestObjectiveNotImproving:
          tuning.notImproving === "" ? undefined : { MaxNumberOfTrainingJobsNotImproving: Number(tuning.notImproving) },
        ConvergenceDetected: tuning.convergence ? { CompleteOnConvergence: "Enabled" as const } : undefined,
      }),
      ParameterRanges: {
        IntegerParameterRanges: numeric("Integer"),
        ContinuousParameterRanges: numeric("Continuous"),
        CategoricalParameterRanges: tuning.ranges
          .filter((range) => range.kind === "Categorical")
          .map((range) => ({ Name: range.name, Values: valuesOf(range) })),
        AutoParameters: auto.length === 0 ? undefined : auto,
      },
      TrainingJobEarlyStoppingType: tuning.earlyStopping && tuning.strategy !== "Hyperband" ? ("Auto" as const) : ("Off" as const),
      RandomSeed: tuning.seed === "" ? undefined : Number(tuning.seed),
    },
    TrainingJobDefinition: {
      StaticHyperParameters: Object.keys(fixed).length === 0 ? undefined : fixed,
      AlgorithmSpecification: own ? { ...algorithmSpecification(draft), MetricDefinitions: undefined } : algorithmSpecification(draft),
      ...definition(draft),
    },
    WarmStartConfig:
      tuning.parents.length === 0
        ? undefined
        : {
            ParentHyperParameterTuningJobs: tuning.parents.map((name) => ({ HyperParameterTuningJobName: name })),
            WarmStartType: tuning.warmStart,
          },
    Autotune: tuning.autotune ? { Mode: "Enabled" as const } : undefined,
    Tags: tags.length === 0 ? undefined : tags,
  });
}

const some = <Value extends object>(value: Value) =>
  Object.values(value).some((member) => member !== undefined) ? value : undefined;

/** The form of a tuning job that does again what a described one did, which has one definition of training jobs. */
export function fromTuning(
  described: DescribeHyperParameterTuningJobResponse,
  vpc: string,
  tags: Pair[],
  account: string,
  region: string,
  resource?: Algorithm,
): { draft: Draft; tuning: Tuning } {
  const job = tuningRequestOf(described, []);
  const { HyperParameterTuningJobConfig: config, TrainingJobDefinition: definition, WarmStartConfig: warm } = job;
  const { ParameterRanges: ranges, HyperParameterTuningJobObjective: objective } = {
    ParameterRanges: definition?.HyperParameterRanges ?? config?.ParameterRanges,
    HyperParameterTuningJobObjective: definition?.TuningObjective ?? config?.HyperParameterTuningJobObjective,
  };
  const like = {
    ...definition,
    HyperParameters: definition?.StaticHyperParameters,
    ResourceConfig: definition?.ResourceConfig ?? definition?.HyperParameterTuningResourceConfig,
  } as unknown as DescribeTrainingJobResponse;
  const numeric = (kind: "Integer" | "Continuous") =>
    (ranges?.[`${kind}ParameterRanges`] ?? []).map(
      ({ Name, MinValue, MaxValue, ScalingType }): Range => ({
        ...proposed(Name!, undefined),
        kind,
        min: MinValue!,
        max: MaxValue!,
        scaling: ScalingType ?? "Auto",
      }),
    );
  const copy = fromDescription(like, vpc, tags, account, region, resource);
  // A description of a tuning job has the algorithm's own metrics among the others.
  const own = new Set(algorithmIn(copy)?.objectives.map(({ name }) => name));
  return {
    draft: {
      ...copy,
      metrics: copy.metrics.filter(({ name }) => !own.has(name)),
      name: nextName(job.HyperParameterTuningJobName ?? "", LONGEST_NAME),
    },
    tuning: {
      strategy: config?.Strategy ?? "Bayesian",
      objective: objective?.MetricName ?? "",
      direction: objective?.Type ?? "Minimize",
      maxJobs: String(config?.ResourceLimits?.MaxNumberOfTrainingJobs ?? ""),
      maxParallel: String(config?.ResourceLimits?.MaxParallelTrainingJobs ?? 1),
      maxRuntime: String(config?.ResourceLimits?.MaxRuntimeInSeconds ?? ""),
      earlyStopping: config?.TrainingJobEarlyStoppingType === "Auto",
      seed: String(config?.RandomSeed ?? ""),
      minResource: String(config?.StrategyConfig?.HyperbandStrategyConfig?.MinResource ?? 1),
      maxResource: String(config?.StrategyConfig?.HyperbandStrategyConfig?.MaxResource ?? ""),
      target: String(config?.TuningJobCompletionCriteria?.TargetObjectiveMetricValue ?? ""),
      notImproving: String(config?.TuningJobCompletionCriteria?.BestObjectiveNotImproving?.MaxNumberOfTrainingJobsNotImproving ?? ""),
      convergence: config?.TuningJobCompletionCriteria?.ConvergenceDetected?.CompleteOnConvergence === "Enabled",
      autotune: job.Autotune !== undefined,
      ranges: [
        ...numeric("Integer"),
        ...numeric("Continuous"),
        ...(ranges?.CategoricalParameterRanges ?? []).map(
          ({ Name, Values }): Range => ({ ...proposed(Name!, undefined), kind: "Categorical", values: (Values ?? []).join("\n") }),
        ),
        ...(ranges?.AutoParameters ?? []).map(({ Name, ValueHint }): Range => ({ ...proposed(Name!, undefined), kind: "Auto", min: ValueHint! })),
      ],
      parents: (warm?.ParentHyperParameterTuningJobs ?? []).flatMap((parent) => parent.HyperParameterTuningJobName ?? []),
      warmStart: warm?.WarmStartType ?? "IdenticalDataAndAlgorithm",
    },
  };
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
