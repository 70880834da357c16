/** A training job as its form holds it, and the request that it means. Everything that people type is text until then. */
import type { CreateTrainingJobRequest, DescribeTrainingJobResponse, TrainingInstanceType } from "@aws-sdk/client-sagemaker";
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
  /** Names of the instance groups that get the data; none for all. */
  instanceGroups: string[];
}

/** Instances of one type, in a cluster of several. */
export interface InstanceGroup {
  name: string;
  type: string;
  count: string;
}

export interface Draft {
  name: string;
  role: string;
  /** What trains: a built-in algorithm (`algorithm` is its id), an algorithm resource of the account, or an image of one's own. */
  source: "builtin" | "resource" | "own";
  algorithm: string;
  resource?: Algorithm;
  /** Of an image of one's own its URI; of a copy the URI that the original named its built-in algorithm by. */
  image: string;
  /** Entry point and arguments of the container, a word a line, as `lines` writes them. */
  entrypoint: string;
  arguments: string;
  metrics: { name: string; regex: string }[];
  /** Whether metrics are kept by the second; built-in algorithms' are unless it is said otherwise. */
  timeSeries: boolean;
  instanceType: string;
  instanceCount: string;
  /** In place of type and count, if there are any. */
  instanceGroups: InstanceGroup[];
  volume: string;
  /** Id, ARN or alias of the key that encrypts the storage volumes. */
  volumeKmsKey: string;
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
  /** Id, ARN or alias of the key that encrypts what the job writes. */
  kmsKey: string;
  environment: Pair[];
  tags: Pair[];
  experiment: string;
  trial: string;
  component: string;
  run: string;
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
  instanceGroups: [],
};

/** What the form shows at first. `account` is that of whoever is signed in, `region` the service's own, where its bucket is. */
export function emptyDraft(account: string, region: string): Draft {
  const algorithm = ALGORITHMS[0]!;
  return {
    name: "",
    role: `arn:aws:iam::${account}:role/SageMakerTraining`,
    source: "builtin",
    algorithm: algorithm.id,
    image: "",
    entrypoint: "",
    arguments: "",
    metrics: [],
    timeSeries: true,
    instanceType: "ml.m5.large",
    instanceCount: "2",
    instanceGroups: [],
    volume: "10",
    volumeKmsKey: "",
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
    kmsKey: "",
    environment: [],
    tags: [],
    experiment: "",
    trial: "",
    component: "",
    run: "",
  };
}

export function requiredDefaults(algorithm: Algorithm): Record<string, string> {
  const required = algorithm.hyperparameters.filter((parameter) => parameter.required);
  return Object.fromEntries(required.map((parameter) => [parameter.name, parameter.default ?? ""]));
}

/** The algorithm whose hyperparameters are known: a built-in one or a resource. */
export function algorithmIn(draft: Draft): Algorithm | undefined {
  if (draft.source === "resource") return draft.resource;
  return draft.source === "builtin" ? ALGORITHMS.find((algorithm) => algorithm.id === draft.algorithm) : undefined;
}

/** The URI of the image that trains: of a built-in algorithm the one that a copied job named, so that the copy does the same. */
function imageOf(draft: Draft): string {
  if (draft.source === "own" || (draft.source === "builtin" && algorithmOf(draft.image)?.id === draft.algorithm)) return draft.image;
  return algorithmIn(draft)?.image ?? "";
}

/** Whether metrics are kept by the second where it is not said: built-in algorithms' are, whoever names their image. */
const finely = (image: string) => algorithmOf(image) !== undefined;

/** What is to change in a draft that another algorithm is to train. */
export function withAlgorithm(source: Draft["source"], algorithm: Algorithm | undefined): Partial<Draft> {
  return {
    source,
    algorithm: source === "builtin" ? (algorithm?.id ?? "") : "",
    resource: source === "resource" ? algorithm : undefined,
    timeSeries: finely(algorithm?.image ?? ""),
    hyperparameters: algorithm === undefined ? {} : requiredDefaults(algorithm),
  };
}

/** How many instances there are in all. */
export function instances(draft: Draft): number {
  const counts = draft.instanceGroups.length > 0 ? draft.instanceGroups.map(({ count }) => count) : [draft.instanceCount];
  return counts.reduce((sum, count) => sum + Number(count), 0);
}

export interface Fault {
  key: Key;
  values?: Values;
}

/** What has to be changed before the request can be sent, by field: "name", "channels.0.uri", "hyperparameters.eta" … */
export type Faults = Record<string, Fault>;

const NAME = /^[a-zA-Z0-9](-*[a-zA-Z0-9])*$/;
const S3_URI = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/.*)?$/;

/** What is wrong with keys and values: those of the list `field`, by "field.0", "field.1" … A row without anything is none. */
export function pairFaults(field: string, pairs: readonly Pair[]): Faults {
  const found: Faults = {};
  pairs.forEach(({ key, value }, index) => {
    if (key === "" && value !== "") found[`${field}.${index}`] = { key: "fault.required" };
    if (key !== "" && pairs.some((other, before) => before < index && other.key === key)) found[`${field}.${index}`] = { key: "fault.twice" };
  });
  return found;
}

export function faults(draft: Draft, longestName = 63): Faults {
  const found: Faults = {
    ...pairFaults("others", draft.others),
    ...pairFaults("environment", draft.environment),
    ...pairFaults("tags", draft.tags),
  };
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
  check("image", algorithmIn(draft) !== undefined || (draft.source === "own" && draft.image !== ""), "fault.required");
  if (draft.instanceGroups.length === 0) whole("instanceCount", draft.instanceCount, 1, 100);
  draft.instanceGroups.forEach(({ name, count }, index) => {
    const once = draft.instanceGroups.filter((other) => other.name === name).length === 1;
    check(`instanceGroups.${index}`, /^.{1,64}$/.test(name) && once && /^\d+$/.test(count) && Number(count) <= 100, "fault.instanceGroup");
  });
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
  const algorithm = algorithmIn(draft);
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

/** Words as a text with one on each line; a word that is no line of its own (it has line breaks, say) in quotes, as JSON writes it. */
export function lines(words: readonly string[]): string {
  const plain = (word: string) => /^[^\s"]([^\n\r]*\S)?$/.test(word);
  return words.map((word) => (plain(word) ? word : JSON.stringify(word))).join("\n");
}

/** The words of such a text. What begins with a quote and is no JSON is meant as it stands. */
export function words(text: string): string[] {
  const word = (line: string) => {
    if (!/^".*"$/.test(line)) return line;
    try {
      return JSON.parse(line) as string;
    } catch {
      return line;
    }
  };
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "").map(word);
}

const filled = (pairs: Pair[]) => pairs.filter((pair) => pair.key !== "");
const record = (pairs: Pair[]) => Object.fromEntries(filled(pairs).map((pair) => [pair.key, pair.value]));
const given = (texts: string[]) => (texts.length > 0 ? texts : undefined);
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
          InstanceGroupNames: draft.instanceGroups.length > 0 && channel.instanceGroups.length > 0 ? channel.instanceGroups : undefined,
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
      KmsKeyId: draft.kmsKey || undefined,
    },
    ResourceConfig: {
      ...(draft.instanceGroups.length > 0
        ? {
            InstanceGroups: draft.instanceGroups.map(({ name, type, count }) => ({
              InstanceGroupName: name,
              InstanceType: type as TrainingInstanceType,
              InstanceCount: Number(count),
            })),
          }
        : { InstanceType: draft.instanceType as TrainingInstanceType, InstanceCount: Number(draft.instanceCount) }),
      VolumeSizeInGB: Number(draft.volume),
      VolumeKmsKeyId: draft.volumeKmsKey || undefined,
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
    TrainingImage: draft.source === "resource" ? undefined : imageOf(draft),
    AlgorithmName: draft.source === "resource" ? draft.resource?.id : undefined,
    TrainingInputMode: "File" as const,
    MetricDefinitions: draft.metrics.length === 0 ? undefined : draft.metrics.map(({ name, regex }) => ({ Name: name, Regex: regex })),
    EnableSageMakerMetricsTimeSeries: draft.timeSeries === finely(imageOf(draft)) ? undefined : draft.timeSeries,
  });
}

export function hyperparameters(draft: Draft): Record<string, string> {
  const own = Object.entries(draft.hyperparameters).filter(([, value]) => value !== "");
  return { ...(algorithmIn(draft) === undefined ? {} : Object.fromEntries(own)), ...record(draft.others) };
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
      ContainerEntrypoint: draft.source === "builtin" ? undefined : given(words(draft.entrypoint)),
      ContainerArguments: draft.source === "builtin" ? undefined : given(words(draft.arguments)),
    }),
    HyperParameters: some(hyperparameters(draft)),
    ...definition(draft),
    ExperimentConfig: some(
      clean({
        ExperimentName: draft.experiment || undefined,
        TrialName: draft.trial || undefined,
        TrialComponentDisplayName: draft.component || undefined,
        RunName: draft.run || undefined,
      }),
    ),
    Tags: tags.length === 0 ? undefined : tags,
  });
}

/**
 * The form of a job that does again what a described one did. The VPC follows from its subnets, and the algorithm resource from
 * its name, which the caller looks up.
 */
export function fromDescription(
  job: DescribeTrainingJobResponse,
  vpc: string,
  tags: Pair[],
  account: string,
  region: string,
  resource?: Algorithm,
): Draft {
  const image = job.AlgorithmSpecification?.TrainingImage ?? "";
  const entrypoint = job.AlgorithmSpecification?.ContainerEntrypoint ?? [];
  const args = job.AlgorithmSpecification?.ContainerArguments ?? [];
  // What runs another program in a built-in algorithm's image is not that algorithm.
  const builtin = resource === undefined && entrypoint.length === 0 && args.length === 0 ? algorithmOf(image) : undefined;
  const algorithm = resource ?? builtin;
  const parameters = Object.entries(job.HyperParameters ?? {});
  const known = (name: string) => algorithm?.hyperparameters.some((parameter) => parameter.name === name) ?? false;
  return {
    ...emptyDraft(account, region),
    name: nextName(job.TrainingJobName ?? ""),
    role: job.RoleArn ?? "",
    source: resource !== undefined ? "resource" : builtin !== undefined ? "builtin" : "own",
    algorithm: builtin?.id ?? "",
    resource,
    image,
    entrypoint: lines(entrypoint),
    arguments: lines(args),
    metrics: (job.AlgorithmSpecification?.MetricDefinitions ?? []).map(({ Name, Regex }) => ({ name: Name!, regex: Regex! })),
    timeSeries: job.AlgorithmSpecification?.EnableSageMakerMetricsTimeSeries ?? finely(resource?.image ?? image),
    instanceType: job.ResourceConfig?.InstanceType ?? "ml.m5.large",
    instanceCount: String(job.ResourceConfig?.InstanceCount ?? 1),
    instanceGroups: (job.ResourceConfig?.InstanceGroups ?? []).map((group) => ({
      name: group.InstanceGroupName ?? "",
      type: group.InstanceType ?? "",
      count: String(group.InstanceCount ?? 1),
    })),
    volume: String(job.ResourceConfig?.VolumeSizeInGB ?? 10),
    volumeKmsKey: job.ResourceConfig?.VolumeKmsKeyId ?? "",
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
      instanceGroups: channel.DataSource?.S3DataSource?.InstanceGroupNames ?? [],
      distribution:
        channel.DataSource?.S3DataSource?.S3DataDistributionType === "ShardedByS3Key" ? "ShardedByS3Key" : "FullyReplicated",
    })),
    checkpoint: job.CheckpointConfig?.S3Uri ?? "",
    output: job.OutputDataConfig?.S3OutputPath ?? "",
    outputCompression: job.OutputDataConfig?.CompressionType === "NONE" ? "NONE" : "GZIP",
    kmsKey: job.OutputDataConfig?.KmsKeyId ?? "",
    environment: Object.entries(job.Environment ?? {}).map(([key, value]) => ({ key, value })),
    tags,
    experiment: job.ExperimentConfig?.ExperimentName ?? "",
    trial: job.ExperimentConfig?.TrialName ?? "",
    component: job.ExperimentConfig?.TrialComponentDisplayName ?? "",
    run: job.ExperimentConfig?.RunName ?? "",
  };
}

/** A name for a job like `name`: its number one higher, or "-2". */
export function nextName(name: string, longest = 63): string {
  const [, stem, number] = /^(.*?)-(\d{1,4})$/.exec(name) ?? [undefined, name, "1"];
  const suffix = `-${Number(number) + 1}`;
  return stem!.slice(0, longest - suffix.length) + suffix;
}

/** Without the members that are undefined, also within members. */
export function clean<Value>(value: Value): Value {
  if (Array.isArray(value)) return value.map(clean) as Value;
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, clean(member)])) as Value;
}
