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
    { title: "SageMaker Python SDK v2", text: estimator(request) },
  ];
}

export function tuningJobCode(request: CreateHyperParameterTuningJobRequest): Code[] {
  return [
    { title: "boto3", text: boto3("create_hyper_parameter_tuning_job", request) },
    { title: "AWS CLI", text: cli("create-hyper-parameter-tuning-job", request) },
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

/** A value as a Python literal, its further lines indented by `indent`. */
export function python(value: unknown, indent = ""): string {
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

function estimator(request: CreateTrainingJobRequest): string {
  const { AlgorithmSpecification: algorithm, ResourceConfig: resources, StoppingCondition: stopping } = request;
  const keywords: [string, unknown][] = [
    ["image_uri", algorithm?.TrainingImage],
    ["role", request.RoleArn],
    ["instance_type", resources?.InstanceType],
    ["instance_count", resources?.InstanceCount],
    ["volume_size", resources?.VolumeSizeInGB],
    ["max_run", stopping?.MaxRuntimeInSeconds],
    ["use_spot_instances", request.EnableManagedSpotTraining],
    ["max_wait", stopping?.MaxWaitTimeInSeconds],
    ["keep_alive_period_in_seconds", resources?.KeepAlivePeriodInSeconds],
    ["output_path", request.OutputDataConfig?.S3OutputPath],
    ["hyperparameters", request.HyperParameters],
    ["environment", request.Environment],
    ["metric_definitions", algorithm?.MetricDefinitions],
    ["checkpoint_s3_uri", request.CheckpointConfig?.S3Uri],
    ["max_retry_attempts", request.RetryStrategy?.MaximumRetryAttempts],
    ["container_entry_point", algorithm?.ContainerEntrypoint],
    ["container_arguments", algorithm?.ContainerArguments],
    ["disable_output_compression", request.OutputDataConfig?.CompressionType === "NONE" ? true : undefined],
    ["subnets", request.VpcConfig?.Subnets],
    ["security_group_ids", request.VpcConfig?.SecurityGroupIds],
    ["enable_network_isolation", request.EnableNetworkIsolation],
    ["encrypt_inter_container_traffic", request.EnableInterContainerTrafficEncryption],
    ["tags", request.Tags],
  ];
  const given = keywords.filter(([, value]) => value !== undefined);
  const channels = (request.InputDataConfig ?? []).map((channel) => {
    const source = channel.DataSource?.S3DataSource;
    const inputs: [string, unknown][] = [
      ["s3_data", source?.S3Uri],
      ["s3_data_type", source?.S3DataType],
      ["distribution", source?.S3DataDistributionType],
      ["content_type", channel.ContentType],
      ["compression", channel.CompressionType],
      ["input_mode", channel.InputMode],
      ["record_wrapping", channel.RecordWrapperType],
      ["attribute_names", source?.AttributeNames],
    ];
    const members = inputs.filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${python(value)}`);
    return `        ${JSON.stringify(channel.ChannelName)}: TrainingInput(${members.join(", ")}),\n`;
  });
  const fit = channels.length > 0 ? `{\n${channels.join("")}    }` : "None";
  return [
    "from sagemaker.estimator import Estimator\nfrom sagemaker.inputs import TrainingInput\n\n",
    "estimator = Estimator(\n",
    ...given.map(([name, value]) => `    ${name}=${python(value, "    ")},\n`),
    ")\n",
    `estimator.fit(\n    ${fit},\n    job_name=${python(request.TrainingJobName)},\n)\n`,
  ].join("");
}
