/** Comparing jobs that did the same work with and without encryption. */
import type { DescribeTrainingJobResponse, TrainingJob } from "@aws-sdk/client-sagemaker";

type Job = Pick<
  DescribeTrainingJobResponse & TrainingJob,
  "AlgorithmSpecification" | "HyperParameters" | "InputDataConfig" | "ResourceConfig" | "Environment" | "TrainingTimeInSeconds"
>;

const ordered = (_: string, value: unknown) =>
  value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
    : value;

/** Whether two jobs trained the same on the same data and the same instances. */
export function sameWork(one: Job, other: Job): boolean {
  const work = ({ AlgorithmSpecification, HyperParameters, InputDataConfig, ResourceConfig, Environment }: Job) =>
    JSON.stringify(
      [
        AlgorithmSpecification?.TrainingImage,
        AlgorithmSpecification?.ContainerEntrypoint,
        AlgorithmSpecification?.ContainerArguments,
        HyperParameters,
        InputDataConfig,
        ResourceConfig?.InstanceType,
        ResourceConfig?.InstanceCount,
        Environment,
      ],
      ordered,
    );
  return work(one) === work(other);
}

export interface Cost {
  encrypted: number;
  clear: number;
  seconds: number;
  percent: number;
}

/** Seconds of training with and without encryption; undefined where one of them did not train. */
export function cost(encrypted: Job, clear: Job): Cost | undefined {
  const [one, other] = [encrypted.TrainingTimeInSeconds, clear.TrainingTimeInSeconds];
  if (!one || !other) return undefined;
  return { encrypted: one, clear: other, seconds: one - other, percent: (100 * (one - other)) / other };
}
