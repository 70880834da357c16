/** A training job as its form holds it, and the request that it means. Everything that people type is text until then. */
import type { CreateTrainingJobRequest, DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import type { Key, Values } from "../i18n";
import { ALGORITHMS, type Algorithm, algorithmOf, allows } from "./algorithms";

export interface Pair {
  key: string;
  value: string;
}

export const INPUT_MODES = ["File", "FastFile", "Pipe"] as const;
export const DATA_TYPES = ["S3Prefix", "ManifestFile", "AugmentedManifestFile"] as const;

export interface Channel {
  name: string;
  uri: string;
  contentType: string;
  compression: "None" | "Gzip";
  dataType: (typeof DATA_TYPES)[number];
  distribution: "FullyReplicated" | "ShardedByS3Key";
  mode: (typeof INPUT_MODES)[number];
  wrapper: "None" | "RecordIO";
  /** Seed of the order that records come in; empty for the order that they are stored in. */
  seed: string;
  /** Of an augmented manifest, separated by commas. */
  attributes: string;
}

export interface Draft {
  name: string;
  role: string;
  /** Id of a built-in algorithm; empty for an image of one's own. */
  algorithm: string;
  image: string;
  entrypoint: string;
  arguments: string;
  metrics: { name: string; regex: string }[];
  instanceType: string;
  instanceCount: string;
  volume: string;
  maxRuntime: string;
  maxPending: string;
  retries: string;
  /** Managed spot training, and the longest that the job may wait for instances and train, in seconds. */
  spot: boolean;
  maxWait: string;
  keepAlive: string;
  isolation: boolean;
  /** Id of the VPC; empty for a network of the job's own. */
  vpc: string;
  subnets: string[];
  groups: string[];
  encrypt: boolean;
  hyperparameters: Record<string, string>;
  /** Hyperparameters that are not the algorithm's, or those of an image of one's own. */
  others: Pair[];
  channels: Channel[];
  checkpoint: string;
  output: string;
  outputCompression: "GZIP" | "NONE";
  environment: Pair[];
  tags: Pair[];
}

export const CHANNEL: Channel = {
  name: "train",
  uri: "",
  contentType: "text/csv",
  compression: "None",
  dataType: "S3Prefix",
  distribution: "ShardedByS3Key",
  mode: "File",
  wrapper: "None",
  seed: "",
  attributes: "",
};

/** What the form shows at first. `account` and `region` are those of whoever is signed in. */
export function emptyDraft(account: string, region: string): Draft {
  const algorithm = ALGORITHMS[0]!;
  return {
    name: "",
    role: `arn:aws:iam::${account}:role/SageMakerTraining`,
    algorithm: algorithm.id,
    image: algorithm.image,
    entrypoint: "",
    arguments: "",
    metrics: [],
    instanceType: "ml.m5.large",
    instanceCount: "2",
    volume: "10",
    maxRuntime: "86400",
    maxPending: "",
    retries: "",
    spot: false,
    maxWait: "86400",
    keepAlive: "",
    isolation: false,
    vpc: "",
    subnets: [],
    groups: [],
    encrypt: false,
    hyperparameters: requiredDefaults(algorithm),
    others: [],
    channels: [CHANNEL],
    checkpoint: "",
    output: `s3://sagemaker-${region}-${account}/output`,
    outputCompression: "GZIP",
    environment: [],
    tags: [],
  };
}

export function requiredDefaults(algorithm: Algorithm): Record<string, string> {
  const required = algorithm.hyperparameters.filter((parameter) => parameter.required);
  return Object.fromEntries(required.map((parameter) => [parameter.name, parameter.default ?? ""]));
}

export const builtin = (draft: Draft) => ALGORITHMS.find((algorithm) => algorithm.id === draft.algorithm);

export interface Fault {
  key: Key;
  values?: Values;
}

/** What has to be changed before the request can be sent, by field: "name", "channels.0.uri", "hyperparameters.eta" … */
export type Faults = Record<string, Fault>;

const NAME = /^[a-zA-Z0-9](-*[a-zA-Z0-9])*$/;
const S3_URI = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/.*)?$/;

export function faults(draft: Draft, longestName = 63): Faults {
  const found: Faults = {};
  const check = (field: string, fine: boolean, key: Key, values?: Values) => {
    if (!fine && found[field] === undefined) found[field] = { key, values };
  };
  const whole = (field: string, text: string, low: number, high: number, optional = false) => {
    const fine = (optional && text === "") || (/^\d+$/.test(text) && Number(text) >= low && Number(text) <= high);
    check(field, fine, "fault.whole", { low, high });
  };
  check("name", draft.name !== "", "fault.required");
  check("name", NAME.test(draft.name) && draft.name.length <= longestName, "fault.name", { most: longestName });
  check("role", /^arn:aws[a-z-]*:iam::\d{12}:role\/.+$/.test(draft.role), "fault.role");
  check("image", builtin(draft) !== undefined || draft.image !== "", "fault.required");
  whole("instanceCount", draft.instanceCount, 1, 100);
  whole("volume", draft.volume, 1, 16384);
  whole("maxRuntime", draft.maxRuntime, 1, 28 * 86400);
  whole("maxPending", draft.maxPending, 1800, 28 * 86400, true);
  whole("retries", draft.retries, 1, 30, true);
  whole("keepAlive", draft.keepAlive, 0, 21_600, true);
  if (draft.spot) whole("maxWait", draft.maxWait, Number(draft.maxRuntime) || 1, 28 * 86400);
  if (draft.vpc !== "") {
    check("subnets", draft.subnets.length > 0, "fault.subnets");
    check("groups", draft.groups.length > 0, "fault.groups");
    check("groups", draft.groups.length <= 5, "fault.groupsMost");
  }
  const algorithm = builtin(draft);
  for (const parameter of algorithm?.hyperparameters ?? []) {
    const value = draft.hyperparameters[parameter.name] ?? "";
    check(`hyperparameters.${parameter.name}`, value !== "" || !parameter.required, "fault.required");
    check(`hyperparameters.${parameter.name}`, value === "" || allows(parameter, value), "fault.range");
  }
  draft.channels.forEach((channel, index) => {
    const others = draft.channels.filter((other) => other.name === channel.name);
    check(`channels.${index}.name`, /^[A-Za-z0-9._-]{1,64}$/.test(channel.name), "fault.channel");
    check(`channels.${index}.name`, others.length === 1, "fault.channelTwice");
    check(`channels.${index}.uri`, S3_URI.test(channel.uri), "fault.s3");
    whole(`channels.${index}.seed`, channel.seed, 0, 2 ** 31 - 1, true);
    const attributed = channel.dataType !== "AugmentedManifestFile" || channel.attributes.trim() !== "";
    check(`channels.${index}.attributes`, attributed, "fault.required");
  });
  check("output", S3_URI.test(draft.output), "fault.s3");
  check("checkpoint", draft.checkpoint === "" || S3_URI.test(draft.checkpoint), "fault.s3");
  draft.metrics.forEach((metric, index) => {
    check(`metrics.${index}`, metric.name !== "" && metric.regex.includes("("), "fault.metric");
  });
  return found;
}

const words = (text: string) => text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
const filled = (pairs: Pair[]) => pairs.filter((pair) => pair.key !== "");
const record = (pairs: Pair[]) => Object.fromEntries(filled(pairs).map((pair) => [pair.key, pair.value]));
const some = <Value extends object>(value: Value) => (Object.keys(value).length > 0 ? value : undefined);

/** The members that training jobs and the definitions of tuning jobs have in common. What was left empty is absent. */
export function definition(draft: Draft) {
  return clean({
    RoleArn: draft.role,
    InputDataConfig: draft.channels.length === 0 ? undefined : draft.channels.map((channel) => ({
      ChannelName: channel.name,
      DataSource: {
        S3DataSource: {
          S3DataType: channel.dataType,
          S3Uri: channel.uri,
          S3DataDistributionType: channel.distribution,
          AttributeNames:
            channel.dataType === "AugmentedManifestFile" ? channel.attributes.split(",").map((name) => name.trim()) : undefined,
        },
      },
      ContentType: channel.contentType || undefined,
      CompressionType: channel.compression === "None" ? undefined : channel.compression,
      InputMode: channel.mode === "File" ? undefined : channel.mode,
      RecordWrapperType: channel.wrapper === "None" ? undefined : channel.wrapper,
      ShuffleConfig: channel.seed === "" ? undefined : { Seed: Number(channel.seed) },
    })),
    OutputDataConfig: {
      S3OutputPath: draft.output,
      CompressionType: draft.outputCompression === "GZIP" ? undefined : draft.outputCompression,
    },
    ResourceConfig: {
      InstanceType: draft.instanceType as never,
      InstanceCount: Number(draft.instanceCount),
      VolumeSizeInGB: Number(draft.volume),
      KeepAlivePeriodInSeconds: draft.keepAlive === "" ? undefined : Number(draft.keepAlive),
    },
    StoppingCondition: {
      MaxRuntimeInSeconds: Number(draft.maxRuntime),
      MaxWaitTimeInSeconds: draft.spot ? Number(draft.maxWait) : undefined,
      MaxPendingTimeInSeconds: draft.maxPending === "" ? undefined : Number(draft.maxPending),
    },
    VpcConfig: draft.vpc === "" ? undefined : { SecurityGroupIds: draft.groups, Subnets: draft.subnets },
    EnableManagedSpotTraining: draft.spot || undefined,
    EnableNetworkIsolation: draft.isolation || undefined,
    EnableInterContainerTrafficEncryption: draft.encrypt,
    CheckpointConfig: draft.checkpoint === "" ? undefined : { S3Uri: draft.checkpoint },
    RetryStrategy: draft.retries === "" ? undefined : { MaximumRetryAttempts: Number(draft.retries) },
    Environment: some(record(draft.environment)),
  });
}

/** AlgorithmSpecification's members that both kinds of job have. */
export function algorithmSpecification(draft: Draft) {
  return clean({
    TrainingImage: builtin(draft)?.image ?? draft.image,
    TrainingInputMode: "File" as const,
    MetricDefinitions: draft.metrics.length === 0 ? undefined : draft.metrics.map(({ name, regex }) => ({ Name: name, Regex: regex })),
  });
}

export function hyperparameters(draft: Draft): Record<string, string> {
  const own = Object.entries(draft.hyperparameters).filter(([, value]) => value !== "");
  return { ...(builtin(draft) === undefined ? {} : Object.fromEntries(own)), ...record(draft.others) };
}

export function tagList(draft: Draft) {
  return filled(draft.tags).map(({ key, value }) => ({ Key: key, Value: value }));
}

/** The request that the form means. */
export function toRequest(draft: Draft): CreateTrainingJobRequest {
  const tags = tagList(draft);
  return clean({
    TrainingJobName: draft.name,
    AlgorithmSpecification: clean({
      ...algorithmSpecification(draft),
      ContainerEntrypoint: draft.algorithm === "" && words(draft.entrypoint).length > 0 ? words(draft.entrypoint) : undefined,
      ContainerArguments: draft.algorithm === "" && words(draft.arguments).length > 0 ? words(draft.arguments) : undefined,
    }),
    HyperParameters: some(hyperparameters(draft)),
    ...definition(draft),
    Tags: tags.length === 0 ? undefined : tags,
  });
}

/** The form of a job that does again what a described one did. The VPC follows from its subnets, which the caller looks up. */
export function fromDescription(job: DescribeTrainingJobResponse, vpc: string, tags: Pair[], account: string, region: string): Draft {
  const image = job.AlgorithmSpecification?.TrainingImage ?? "";
  const algorithm = algorithmOf(image);
  const parameters = Object.entries(job.HyperParameters ?? {});
  const known = (name: string) => algorithm?.hyperparameters.some((parameter) => parameter.name === name) ?? false;
  return {
    ...emptyDraft(account, region),
    name: nextName(job.TrainingJobName ?? ""),
    role: job.RoleArn ?? "",
    algorithm: algorithm?.id ?? "",
    image,
    entrypoint: (job.AlgorithmSpecification?.ContainerEntrypoint ?? []).join("\n"),
    arguments: (job.AlgorithmSpecification?.ContainerArguments ?? []).join("\n"),
    metrics: (job.AlgorithmSpecification?.MetricDefinitions ?? []).map(({ Name, Regex }) => ({ name: Name!, regex: Regex! })),
    instanceType: job.ResourceConfig?.InstanceType ?? "ml.m5.large",
    instanceCount: String(job.ResourceConfig?.InstanceCount ?? 1),
    volume: String(job.ResourceConfig?.VolumeSizeInGB ?? 10),
    maxRuntime: String(job.StoppingCondition?.MaxRuntimeInSeconds ?? 86400),
    maxPending: String(job.StoppingCondition?.MaxPendingTimeInSeconds ?? ""),
    retries: String(job.RetryStrategy?.MaximumRetryAttempts ?? ""),
    spot: job.EnableManagedSpotTraining ?? false,
    maxWait: String(job.StoppingCondition?.MaxWaitTimeInSeconds ?? 86400),
    keepAlive: String(job.ResourceConfig?.KeepAlivePeriodInSeconds || ""),
    isolation: job.EnableNetworkIsolation ?? false,
    vpc,
    subnets: vpc === "" ? [] : (job.VpcConfig?.Subnets ?? []),
    groups: vpc === "" ? [] : (job.VpcConfig?.SecurityGroupIds ?? []),
    encrypt: job.EnableInterContainerTrafficEncryption ?? false,
    hyperparameters: Object.fromEntries(parameters.filter(([name]) => known(name))),
    others: parameters.filter(([name]) => !known(name)).map(([key, value]) => ({ key, value })),
    channels: (job.InputDataConfig ?? []).map((channel) => ({
      name: channel.ChannelName ?? "",
      uri: channel.DataSource?.S3DataSource?.S3Uri ?? "",
      contentType: channel.ContentType ?? "",
      compression: channel.CompressionType === "Gzip" ? "Gzip" : "None",
      dataType: DATA_TYPES.find((type) => type === channel.DataSource?.S3DataSource?.S3DataType) ?? "S3Prefix",
      mode: INPUT_MODES.find((mode) => mode === (channel.InputMode ?? job.AlgorithmSpecification?.TrainingInputMode)) ?? "File",
      wrapper: channel.RecordWrapperType === "RecordIO" ? "RecordIO" : "None",
      seed: String(channel.ShuffleConfig?.Seed ?? ""),
      attributes: (channel.DataSource?.S3DataSource?.AttributeNames ?? []).join(", "),
      distribution:
        channel.DataSource?.S3DataSource?.S3DataDistributionType === "ShardedByS3Key" ? "ShardedByS3Key" : "FullyReplicated",
    })),
    checkpoint: job.CheckpointConfig?.S3Uri ?? "",
    output: job.OutputDataConfig?.S3OutputPath ?? "",
    outputCompression: job.OutputDataConfig?.CompressionType === "NONE" ? "NONE" : "GZIP",
    environment: Object.entries(job.Environment ?? {}).map(([key, value]) => ({ key, value })),
    tags,
  };
}

/** A name for a job like `name`: its number one higher, or "-2". */
export function nextName(name: string): string {
  const [, stem, number] = /^(.*?)-(\d{1,4})$/.exec(name) ?? [undefined, name, "1"];
  const suffix = `-${Number(number) + 1}`;
  return stem!.slice(0, 63 - suffix.length) + suffix;
}

/** Without the members that are undefined, also within members. */
export function clean<Value>(value: Value): Value {
  if (Array.isArray(value)) return value.map(clean) as Value;
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, clean(member)])) as Value;
}
