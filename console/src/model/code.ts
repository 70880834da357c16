/** A request as code that sends it: boto3, the AWS CLI, the SageMaker Python SDK. */
import type { CreateHyperParameterTuningJobRequest, CreateTrainingJobRequest } from "@aws-sdk/client-sagemaker";

export interface Code {
  /** What people call it, by which it is chosen. Names of programs are the same in every language. */
  title: string;
  text: string;
}

export function trainingJobCode(request: CreateTrainingJobRequest): Code[] {
  return [
    { title: "boto3", text: boto3("create_training_job", request) },
    { title: "AWS CLI", text: cli("create-training-job", request) },
    { title: "SageMaker Python SDK v3", text: resource("TrainingJob", request, "wait(logs=True)") },
    // SDK v2 leaves members of jobs with an algorithm resource out, network isolation among them.
    ...(request.AlgorithmSpecification?.AlgorithmName === undefined ? [{ title: "SageMaker Python SDK v2", text: training(request) }] : []),
  ];
}

export function tuningJobCode(request: CreateHyperParameterTuningJobRequest): Code[] {
  return [
    { title: "boto3", text: boto3("create_hyper_parameter_tuning_job", request) },
    { title: "AWS CLI", text: cli("create-hyper-parameter-tuning-job", request) },
    { title: "SageMaker Python SDK v3", text: resource("HyperParameterTuningJob", request, "wait()") },
    ...(request.TrainingJobDefinition?.AlgorithmSpecification?.TrainingImage === undefined
      ? []
      : [{ title: "SageMaker Python SDK v2", text: tuning(request) }]),
  ];
}

function boto3(method: string, request: object): string {
  const members = Object.entries(request).map(([name, value]) => `    ${name}=${python(value, "    ")},\n`);
  return `import boto3\n\nboto3.client("sagemaker").${method}(\n${members.join("")})\n`;
}

function cli(command: string, request: object): string {
  // In single quotes a shell changes nothing but the quote itself.
  const json = JSON.stringify(request, undefined, 2).replaceAll("'", `'\\''`);
  return `aws sagemaker ${command} --cli-input-json '${json}'\n`;
}

/** Members whose own members people have named. */
const NAMED = ["HyperParameters", "StaticHyperParameters", "Environment"];

/** A request with its members named as SDK v3 names them. */
function snake(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snake);
  if (value === null || typeof value !== "object") return value;
  const renamed = (name: string) => name.replace(/(.)([A-Z][a-z]+)/g, "$1_$2").replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [renamed(name), NAMED.includes(name) ? each : snake(each)]));
}

/**
 * SDK v3's resources take each member of a request as it is. Its ModelTrainer has no exact name and no entry point, and its
 * HyperparameterTuner leaves EnableInterContainerTrafficEncryption out.
 */
function resource(kind: string, request: object, wait: string): string {
  return `from sagemaker.core.resources import ${kind}\n\njob = ${call(`${kind}.create`, Object.entries(snake(request) as object))}job.${wait}\n`;
}

/** What stands in a program as it is. */
class Expression {
  constructor(readonly text: string) {}
}

function call(name: string, keywords: [string, unknown][]): string {
  const given = keywords.filter(([, value]) => value !== undefined);
  return `${name}(\n${given.map(([keyword, value]) => `    ${keyword}=${python(value, "    ")},\n`).join("")})\n`;
}

/** A call on one line, as a value. */
function made(name: string, keywords: [string, unknown][]): Expression {
  const given = keywords.filter(([, value]) => value !== undefined);
  return new Expression(`${name}(${given.map(([keyword, value]) => `${keyword}=${python(value)}`).join(", ")})`);
}

/** A value as a Python literal, its further lines indented by `indent`. */
export function python(value: unknown, indent = ""): string {
  if (value instanceof Expression) return value.text;
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const list = Array.isArray(value);
  const items = list
    ? value.map((item) => python(item, inner))
    : Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}: ${python(member, inner)}`);
  const [open, close] = list ? "[]" : "{}";
  if (items.length === 0) return `${open}${close}`;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}

/** What SDK v2's Estimator takes of a training job, or of the definition of a tuning job. */
type Definition = Pick<
  CreateTrainingJobRequest,
  | "RoleArn"
  | "InputDataConfig"
  | "OutputDataConfig"
  | "ResourceConfig"
  | "StoppingCondition"
  | "VpcConfig"
  | "EnableManagedSpotTraining"
  | "EnableNetworkIsolation"
  | "EnableInterContainerTrafficEncryption"
  | "CheckpointConfig"
  | "RetryStrategy"
  | "Environment"
> & { AlgorithmSpecification?: CreateTrainingJobRequest["AlgorithmSpecification"] };

function estimator(request: Definition, hyperparameters: Record<string, string> | undefined, tags: unknown): string {
  const { AlgorithmSpecification: algorithm, ResourceConfig: resources, StoppingCondition: stopping } = request;
  const groups = resources?.InstanceGroups?.map((group) =>
    made("InstanceGroup", [
      ["instance_group_name", group.InstanceGroupName],
      ["instance_type", group.InstanceType],
      ["instance_count", group.InstanceCount],
    ]),
  );
  const code = call("Estimator", [
    ["image_uri", algorithm?.TrainingImage],
    ["role", request.RoleArn],
    ["instance_type", resources?.InstanceType],
    ["instance_count", resources?.InstanceCount],
    ["instance_groups", groups],
    ["volume_size", resources?.VolumeSizeInGB],
    ["max_run", stopping?.MaxRuntimeInSeconds],
    ["use_spot_instances", request.EnableManagedSpotTraining],
    ["max_wait", stopping?.MaxWaitTimeInSeconds],
    ["keep_alive_period_in_seconds", resources?.KeepAlivePeriodInSeconds],
    ["output_path", request.OutputDataConfig?.S3OutputPath],
    ["output_kms_key", request.OutputDataConfig?.KmsKeyId],
    ["hyperparameters", hyperparameters],
    ["environment", request.Environment],
    ["metric_definitions", algorithm?.MetricDefinitions],
    ["enable_sagemaker_metrics", algorithm?.EnableSageMakerMetricsTimeSeries],
    ["checkpoint_s3_uri", request.CheckpointConfig?.S3Uri],
    ["max_retry_attempts", request.RetryStrategy?.MaximumRetryAttempts],
    ["container_entry_point", algorithm?.ContainerEntrypoint],
    ["container_arguments", algorithm?.ContainerArguments],
    ["disable_output_compression", request.OutputDataConfig?.CompressionType === "NONE" ? true : undefined],
    ["subnets", request.VpcConfig?.Subnets],
    ["security_group_ids", request.VpcConfig?.SecurityGroupIds],
    ["enable_network_isolation", request.EnableNetworkIsolation],
    ["encrypt_inter_container_traffic", request.EnableInterContainerTrafficEncryption],
    ["tags", tags],
  ]);
  const imports = [
    "from sagemaker.estimator import Estimator\n",
    "from sagemaker.inputs import TrainingInput\n",
    groups === undefined ? "" : "from sagemaker.instance_group import InstanceGroup\n",
  ];
  return `${imports.join("")}\nestimator = ${code}`;
}

function inputs(channels: CreateTrainingJobRequest["InputDataConfig"]): unknown {
  if (channels === undefined || channels.length === 0) return null;
  return Object.fromEntries(
    channels.map((channel) => {
      const source = channel.DataSource?.S3DataSource;
      const seed = channel.ShuffleConfig?.Seed;
      const input = made("TrainingInput", [
        ["s3_data", source?.S3Uri],
        ["s3_data_type", source?.S3DataType],
        ["distribution", source?.S3DataDistributionType],
        ["content_type", channel.ContentType],
        ["compression", channel.CompressionType],
        ["input_mode", channel.InputMode],
        ["record_wrapping", channel.RecordWrapperType],
        ["attribute_names", source?.AttributeNames],
        ["instance_groups", source?.InstanceGroupNames],
        ["shuffle_config", seed === undefined ? undefined : new Expression(`ShuffleConfig(${seed})`)],
      ]);
      return [channel.ChannelName, input];
    }),
  );
}

const shuffled = (channels: CreateTrainingJobRequest["InputDataConfig"]) =>
  channels?.some((channel) => channel.ShuffleConfig !== undefined) ? "from sagemaker.inputs import ShuffleConfig\n" : "";

function training(request: CreateTrainingJobRequest): string {
  const experiment = request.ExperimentConfig;
  const fit = call("estimator.fit", [
    ["inputs", inputs(request.InputDataConfig)],
    ["job_name", request.TrainingJobName],
    ["experiment_config", experiment],
  ]);
  return shuffled(request.InputDataConfig) + estimator(request, request.HyperParameters, request.Tags) + fit;
}

function tuning(request: CreateHyperParameterTuningJobRequest): string {
  const { HyperParameterTuningJobConfig: config, WarmStartConfig: warm } = request;
  const { TrainingJobDefinition: definition } = request;
  const limits = config?.ResourceLimits;
  const criteria = config?.TuningJobCompletionCriteria;
  const hyperband = config?.StrategyConfig?.HyperbandStrategyConfig;
  const numeric = (kind: "Integer" | "Continuous") =>
    (config?.ParameterRanges?.[`${kind}ParameterRanges`] ?? []).map(({ Name, MinValue, MaxValue, ScalingType }) => [
      Name!,
      // Bounds are texts in the API and numbers here.
      new Expression(`${kind}Parameter(${MinValue}, ${MaxValue}, ${python(ScalingType ?? "Auto")})`),
    ] as const);
  const ranges = [
    ...numeric("Integer"),
    ...numeric("Continuous"),
    ...(config?.ParameterRanges?.CategoricalParameterRanges ?? []).map(
      ({ Name, Values }) => [Name!, new Expression(`CategoricalParameter(${python(Values ?? []).replace(/\s*\n\s*/g, " ")})`)] as const,
    ),
  ];
  const parents = warm?.ParentHyperParameterTuningJobs?.map((parent) => parent.HyperParameterTuningJobName);
  const used = new Map<string, Expression>();
  if (warm !== undefined) {
    const names = (parents ?? []).map((name) => python(name)).join(", ");
    used.set("WarmStartConfig, WarmStartTypes", new Expression(
      `WarmStartConfig(WarmStartTypes(${python(warm.WarmStartType)}), {${names}})`,
    ));
  }
  if (criteria !== undefined) {
    used.set("TuningJobCompletionCriteriaConfig", made("TuningJobCompletionCriteriaConfig", [
      ["max_number_of_training_jobs_not_improving", criteria.BestObjectiveNotImproving?.MaxNumberOfTrainingJobsNotImproving],
      ["complete_on_convergence", criteria.ConvergenceDetected && criteria.ConvergenceDetected.CompleteOnConvergence === "Enabled"],
      ["target_objective_metric_value", criteria.TargetObjectiveMetricValue],
    ]));
  }
  if (hyperband !== undefined) {
    used.set("HyperbandStrategyConfig, StrategyConfig", new Expression(
      `StrategyConfig(HyperbandStrategyConfig(max_resource=${python(hyperband.MaxResource)}, min_resource=${python(hyperband.MinResource)}))`,
    ));
  }
  const kinds = ["Categorical", "Continuous", "Integer"].map((kind) => `${kind}Parameter`);
  const names = [...kinds.filter((kind) => ranges.some(([, value]) => value.text.startsWith(kind))), "HyperparameterTuner", ...used.keys()];
  const tuner = call("tuner = HyperparameterTuner", [
    ["estimator", new Expression("estimator")],
    ["objective_metric_name", config?.HyperParameterTuningJobObjective?.MetricName],
    ["objective_type", config?.HyperParameterTuningJobObjective?.Type],
    ["hyperparameter_ranges", Object.fromEntries(ranges)],
    ["metric_definitions", definition?.AlgorithmSpecification?.MetricDefinitions],
    ["strategy", config?.Strategy],
    ["strategy_config", used.get("HyperbandStrategyConfig, StrategyConfig")],
    ["max_jobs", limits?.MaxNumberOfTrainingJobs],
    ["max_parallel_jobs", limits?.MaxParallelTrainingJobs],
    ["max_runtime_in_seconds", limits?.MaxRuntimeInSeconds],
    ["early_stopping_type", config?.TrainingJobEarlyStoppingType],
    ["completion_criteria_config", used.get("TuningJobCompletionCriteriaConfig")],
    ["warm_start_config", used.get("WarmStartConfig, WarmStartTypes")],
    ["random_seed", config?.RandomSeed],
    ["autotune", request.Autotune === undefined ? undefined : true],
    // What it is told of besides, it takes for a hint and searches over.
    ["hyperparameters_to_keep_static", request.Autotune === undefined ? undefined : Object.keys(definition?.StaticHyperParameters ?? {})],
    ["tags", request.Tags],
  ]);
  const fit = call("tuner.fit", [
    ["inputs", inputs(definition?.InputDataConfig)],
    ["job_name", request.HyperParameterTuningJobName],
  ]);
  const imports = `from sagemaker.tuner import ${names.join(", ")}\n`;
  const hints = (config?.ParameterRanges?.AutoParameters ?? []).map(({ Name, ValueHint }) => [Name!, ValueHint!] as const);
  const hyperparameters = { ...definition?.StaticHyperParameters, ...Object.fromEntries(hints) };
  const defined = { ...definition, AlgorithmSpecification: { ...definition?.AlgorithmSpecification, MetricDefinitions: undefined } };
  return shuffled(definition?.InputDataConfig) + imports + estimator(defined as Definition, hyperparameters, undefined) + tuner + fit;
}
