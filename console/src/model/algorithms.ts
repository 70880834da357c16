/** Algorithms, their hyperparameters and ranges: built-in ones (tests/console holds the table to the training programs) and resources. */
import type { DescribeAlgorithmCommandOutput } from "@aws-sdk/client-sagemaker";
import table from "./algorithms.json";

export interface Hyperparameter {
  name: string;
  kind: "Integer" | "Continuous" | "Categorical" | "FreeText";
  /** Bounds belong to the range unless it is open at that side. */
  min?: number;
  max?: number;
  openMin?: boolean;
  openMax?: boolean;
  choices?: string[];
  /** Words that a number may also be, such as "auto". */
  words?: string[];
  default?: string;
  required?: boolean;
  /** Shown at once; the others when asked for. */
  common?: boolean;
  /** The range that a tuning job is proposed. */
  tune?: [number, number];
}

export interface Algorithm {
  /** Of a built-in algorithm its name in the catalogue, of a resource its ARN. */
  id: string;
  name: string;
  /** Names of its image's repositories: which registry and tag does not matter. */
  repositories: string[];
  image: string;
  objectives: { name: string; type: "Maximize" | "Minimize" }[];
  hyperparameters: Hyperparameter[];
}

export const ALGORITHMS = table as Algorithm[];

/** The built-in algorithm that an image URI means, by its repository's name alone, as the service reads it. */
export function algorithmOf(image: string): Algorithm | undefined {
  const repository = image.split("@")[0]!.split("/").pop()!.split(":")[0]!;
  return ALGORITHMS.find((algorithm) => algorithm.repositories.includes(repository));
}

/** An algorithm resource of the account, by what its specification says. */
export function algorithmResource(found: DescribeAlgorithmCommandOutput): Algorithm {
  const training = found.TrainingSpecification;
  return {
    id: found.AlgorithmArn ?? "",
    name: found.AlgorithmName ?? "",
    repositories: [],
    image: training?.TrainingImage ?? "",
    objectives: (training?.SupportedTuningJobObjectiveMetrics ?? []).map(({ MetricName, Type }) => ({ name: MetricName!, type: Type! })),
    hyperparameters: (training?.SupportedHyperParameters ?? []).map((parameter) => {
      const { IntegerParameterRangeSpecification: whole, ContinuousParameterRangeSpecification: real } = parameter.Range ?? {};
      const span = whole ?? real;
      return {
        name: parameter.Name!,
        kind: parameter.Type!,
        min: span && Number(span.MinValue),
        max: span && Number(span.MaxValue),
        choices: parameter.Type === "Categorical" ? (parameter.Range?.CategoricalParameterRangeSpecification?.Values ?? []) : undefined,
        default: parameter.DefaultValue,
        required: parameter.IsRequired,
        common: true,
        tune: parameter.IsTunable && span ? ([Number(span.MinValue), Number(span.MaxValue)] as [number, number]) : undefined,
      };
    }),
  };
}

/** Whether `text` is a value that a hyperparameter may have. */
export function allows(parameter: Hyperparameter, text: string): boolean {
  if (parameter.kind === "FreeText" || parameter.words?.includes(text)) return true;
  if (parameter.kind === "Categorical") return parameter.choices!.includes(text);
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) return false;
  if (parameter.kind === "Integer" && !/^\s*[-+]?\d+\s*$/.test(text)) return false;
  const { min = -Infinity, max = Infinity, openMin, openMax } = parameter;
  return (openMin ? value > min : value >= min) && (openMax ? value < max : value <= max);
}

/** A range as mathematicians write it: "(0, 1]", "[1, ∞)". */
export function range(parameter: Hyperparameter): string | undefined {
  if (parameter.kind === "Categorical" || parameter.kind === "FreeText") return undefined;
  const { min, max, openMin, openMax } = parameter;
  if (min === undefined && max === undefined) return undefined;
  const left = min === undefined ? "(−∞" : `${openMin ? "(" : "["}${min}`;
  const right = max === undefined ? "∞)" : `${max}${openMax ? ")" : "]"}`;
  return `${left}, ${right}`;
}
