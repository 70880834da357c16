/** Comparing jobs that did the same work with and without encryption. */
import type { DescribeTrainingJobResponse, TrainingJob } from "@aws-sdk/client-sagemaker";
import { instanceGroups } from "./instances";

type Job = Pick<
  DescribeTrainingJobResponse & TrainingJob,
  | "AlgorithmSpecification"
  | "HyperParameters"
  | "InputDataConfig"
  | "ResourceConfig"
  | "Environment"
  | "TrainingTimeInSeconds"
  | "SecondaryStatusTransitions"
>;

const ordered = (_: string, value: unknown) =>
  value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
    : value;

/** The channels with what a request may leave unsaid, so that it does not matter whether it was said. */
function data({ AlgorithmSpecification, InputDataConfig }: Job) {
  return (InputDataConfig ?? []).map((channel) => {
    const { CompressionType = "None", RecordWrapperType = "None", InputMode = AlgorithmSpecification?.TrainingInputMode } = channel;
    const source = { S3DataDistributionType: "FullyReplicated", ...channel.DataSource?.S3DataSource };
    return { ...channel, CompressionType, RecordWrapperType, InputMode, DataSource: source };
  });
}

/** Whether two jobs trained the same on the same data and the same instances. */
export function sameWork(one: Job, other: Job): boolean {
  const work = (job: Job) => {
    const { AlgorithmSpecification, HyperParameters, ResourceConfig, Environment } = job;
    return JSON.stringify(
      [
        AlgorithmSpecification?.AlgorithmName ?? AlgorithmSpecification?.TrainingImage,
        AlgorithmSpecification?.ContainerEntrypoint,
        AlgorithmSpecification?.ContainerArguments,
        HyperParameters,
        data(job),
        instanceGroups(ResourceConfig),
        Environment,
      ],
      ordered,
    );
  };
  return work(one) === work(other);
}

/** What a job spent seconds on: getting instances, network and keys ready, and training. */
export const PARTS = ["start", "training"] as const;

export interface Cost {
  part: (typeof PARTS)[number];
  /** Seconds; undefined where it is not known. */
  encrypted?: number;
  clear?: number;
  /** How much more the encrypted job took, in seconds and in percent, where both are known. */
  seconds?: number;
  percent?: number;
}

/** Seconds with and without encryption, part by part. Either job may be missing. */
export function costs(encrypted: Job | undefined, clear: Job | undefined): Cost[] {
  return PARTS.map((part) => {
    const [one, other] = [encrypted, clear].map((job) => job && (part === "start" ? starting(job) : job.TrainingTimeInSeconds));
    if (one === undefined || other === undefined) return { part, encrypted: one, clear: other };
    return { part, encrypted: one, clear: other, seconds: one - other, percent: other > 0 ? (100 * (one - other)) / other : undefined };
  });
}

/** How much of its training time a managed spot job is not billed for, in percent; undefined for others, and before it has ended. */
export function savings(job: DescribeTrainingJobResponse): number | undefined {
  const { EnableManagedSpotTraining: spot, TrainingTimeInSeconds: trained, BillableTimeInSeconds: billed } = job;
  return spot && trained && billed !== undefined ? 100 * (1 - billed / trained) : undefined;
}

function starting(job: Job): number | undefined {
  const ended = (job.SecondaryStatusTransitions ?? []).filter(({ Status, EndTime }) => Status === "Starting" && EndTime !== undefined);
  if (ended.length === 0) return undefined;
  return ended.reduce((sum, { StartTime, EndTime }) => sum + (EndTime!.getTime() - StartTime!.getTime()) / 1000, 0);
}
