import { expect, test } from "vitest";
import { ALGORITHMS, algorithmResource } from "../src/model/algorithms";
import { sameWork } from "../src/model/cost";
import { CHANNEL, type Draft, emptyDraft, faults, fromDescription, instances, lines, nextName, toRequest, withAlgorithm, words } from "../src/model/draft";
import { requestOf } from "../src/model/request";

const draft = (change: Partial<Draft> = {}): Draft => ({
  ...emptyDraft("123456789012", "us-west-2"),
  name: "job",
  channels: [{ ...CHANNEL, uri: "s3://bucket/train/" }],
  ...change,
});

test("a form that was only named and given data can be sent", () => {
  expect(faults(draft())).toEqual({});
});

test("what is empty is not in the request", () => {
  const request = toRequest(draft());
  expect(Object.keys(request).sort()).toEqual([
    "AlgorithmSpecification",
    "EnableInterContainerTrafficEncryption",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "RoleArn",
    "StoppingCondition",
    "TrainingJobName",
  ]);
  expect(request.StoppingCondition).toEqual({ MaxRuntimeInSeconds: 86400 });
});

test("the network is asked for as it was chosen", () => {
  const request = toRequest(draft({ vpc: "vpc-1", subnets: ["subnet-1"], groups: ["sg-1"], encrypt: true }));
  expect(request.VpcConfig).toEqual({ Subnets: ["subnet-1"], SecurityGroupIds: ["sg-1"] });
  expect(request.EnableInterContainerTrafficEncryption).toBe(true);
});

test.each<[string, Partial<Draft>]>([
  ["name", { name: "" }],
  ["name", { name: "-job" }],
  ["name", { name: "x".repeat(64) }],
  ["role", { role: "admin" }],
  ["image", { source: "own", image: "" }],
  ["image", { source: "resource" }],
  ["instanceGroups.0", { instanceGroups: [{ name: "", type: "ml.m5.large", count: "1" }] }],
  ["instanceCount", { instanceCount: "0" }],
  ["instanceCount", { instanceCount: "two" }],
  ["maxPending", { maxPending: "60" }],
  ["retries", { retries: "31" }],
  ["maxWait", { spot: true, maxWait: "60" }],
  ["keepAlive", { keepAlive: "21601" }],
  ["channels.0.attributes", { channels: [{ ...CHANNEL, uri: "s3://bucket/m", dataType: "AugmentedManifestFile" }] }],
  ["subnets", { vpc: "vpc-1", groups: ["sg-1"] }],
  ["groups", { vpc: "vpc-1", subnets: ["subnet-1"] }],
  ["hyperparameters.num_round", { hyperparameters: {} }],
  ["hyperparameters.eta", { hyperparameters: { num_round: "1", eta: "2" } }],
  ["channels.0.uri", { channels: [CHANNEL] }],
  ["output", { output: "/tmp" }],
  ["checkpoint", { checkpoint: "s3:/x" }],
  ["metrics.0", { metrics: [{ name: "loss", regex: "loss=.*" }] }],
])("%s is told", (field, change) => expect(Object.keys(faults(draft(change)))).toEqual([field]));

test("two channels of one name are told at both", () => {
  const channel = { ...CHANNEL, uri: "s3://bucket/a/" };
  expect(Object.keys(faults(draft({ channels: [channel, channel] })))).toEqual(["channels.0.name", "channels.1.name"]);
});

test("a described job becomes the form that creates it again", () => {
  const request = toRequest(
    draft({
      vpc: "vpc-1",
      subnets: ["subnet-1"],
      groups: ["sg-1"],
      encrypt: true,
      isolation: true,
      retries: "3",
      spot: true,
      maxWait: "90000",
      keepAlive: "600",
      channels: [
        { ...CHANNEL, uri: "s3://bucket/a", mode: "Pipe", wrapper: "RecordIO", seed: "7" },
        { ...CHANNEL, name: "more", uri: "s3://bucket/b", mode: "FastFile", dataType: "AugmentedManifestFile", attributes: "x, y" },
      ],
      maxPending: "7200",
      checkpoint: "s3://bucket/checkpoints",
      outputCompression: "NONE",
      kmsKey: "alias/models",
      hyperparameters: { num_round: "10", eta: "0.1" },
      others: [{ key: "sagemaker_extra", value: "1" }],
      environment: [{ key: "A", value: "b" }],
      timeSeries: false,
      experiment: "experiment",
      trial: "trial",
    }),
  );
  const copy = fromDescription({ ...request } as never, "vpc-1", [], "123456789012", "us-west-2");
  expect(toRequest(copy)).toEqual({ ...request, TrainingJobName: "job-2" });
  expect(requestOf(request as never, [])).toEqual(request);
  const Tags = [{ Key: "team", Value: "blue" }];
  expect(requestOf(request as never, Tags)).toEqual({ ...request, Tags });
});

/** With every member that docs/compatibility.md says works, of those that may be other than what is not said means. */
const described = {
  TrainingJobName: "job",
  AlgorithmSpecification: {
    TrainingImage: "354813040037.dkr.ecr.ap-northeast-1.amazonaws.com/sagemaker-xgboost:1.5-1",
    TrainingInputMode: "File",
    // In place of the algorithm's own of that name.
    MetricDefinitions: [{ Name: "train:rmse", Regex: "mine=(.*)" }],
    EnableSageMakerMetricsTimeSeries: false,
  },
  HyperParameters: { num_round: "10", mine: "x" },
  RoleArn: "arn:aws:iam::123456789012:role/Other",
  InputDataConfig: [
    {
      ChannelName: "train",
      DataSource: {
        S3DataSource: {
          S3DataType: "AugmentedManifestFile",
          S3Uri: "s3://bucket/a",
          S3DataDistributionType: "ShardedByS3Key",
          AttributeNames: ["x", "y"],
          InstanceGroupNames: ["one"],
        },
      },
      ContentType: "text/csv",
      CompressionType: "Gzip",
      InputMode: "Pipe",
      RecordWrapperType: "RecordIO",
      ShuffleConfig: { Seed: 7 },
    },
  ],
  OutputDataConfig: { S3OutputPath: "s3://bucket/out", CompressionType: "NONE", KmsKeyId: "alias/models" },
  ResourceConfig: {
    InstanceGroups: [{ InstanceGroupName: "one", InstanceType: "ml.m5.large", InstanceCount: 2 }],
    VolumeSizeInGB: 20,
    VolumeKmsKeyId: "alias/volumes",
    KeepAlivePeriodInSeconds: 600,
  },
  StoppingCondition: { MaxRuntimeInSeconds: 100, MaxWaitTimeInSeconds: 200, MaxPendingTimeInSeconds: 7200 },
  VpcConfig: { SecurityGroupIds: ["sg-1"], Subnets: ["subnet-1"] },
  EnableManagedSpotTraining: true,
  EnableNetworkIsolation: true,
  EnableInterContainerTrafficEncryption: true,
  CheckpointConfig: { S3Uri: "s3://bucket/checkpoints" },
  RetryStrategy: { MaximumRetryAttempts: 3 },
  Environment: { A: "b", EMPTY: "" },
  ExperimentConfig: { ExperimentName: "e", TrialName: "t", TrialComponentDisplayName: "c", RunName: "r" },
};
const clone = (job: object, vpc = "vpc-1") => toRequest(fromDescription(job as never, vpc, [], "123456789012", "us-west-2"));

test("a clone asks for all that the job asked for", () => {
  const copy = clone(described);
  expect(copy).toEqual({ ...requestOf(described as never, []), TrainingJobName: "job-2" });
  expect(sameWork(described as never, copy as never)).toBe(true);
});

test("the clone of a job that ran its own program in a built-in image runs that program", () => {
  const entry = ["python3", "-c", 'print("a")\nprint("b")', ' spaced ', '"quoted"'];
  const specification = { ...described.AlgorithmSpecification, ContainerEntrypoint: entry, ContainerArguments: ["--x", ""] };
  const job = { ...described, AlgorithmSpecification: specification, HyperParameters: undefined };
  const made = fromDescription(job as never, "vpc-1", [], "123456789012", "us-west-2");
  expect([made.source, faults(made)]).toEqual(["own", {}]);
  expect(toRequest(made)).toEqual({ ...requestOf(job as never, []), TrainingJobName: "job-2" });
});

test("a clone whose algorithm is changed trains that one's own image", () => {
  const made = fromDescription(described as never, "", [], "123456789012", "us-west-2");
  const forest = ALGORITHMS.find(({ id }) => id !== made.algorithm)!;
  const changed = toRequest({ ...made, ...withAlgorithm("builtin", forest) });
  expect(changed.AlgorithmSpecification?.TrainingImage).toBe(forest.image);
});

test("work is the same where a request says what is so anyway", () => {
  const plain = toRequest(draft({ channels: [{ ...CHANNEL, uri: "s3://bucket/a", mode: "Pipe", distribution: "FullyReplicated" }] }));
  const [channel] = plain.InputDataConfig!;
  const said = {
    ...plain,
    AlgorithmSpecification: { ...plain.AlgorithmSpecification, TrainingInputMode: "Pipe" },
    InputDataConfig: [
      {
        ...channel,
        DataSource: { S3DataSource: { S3DataType: "S3Prefix", S3Uri: "s3://bucket/a" } },
        CompressionType: "None",
        RecordWrapperType: "None",
        InputMode: undefined,
      },
    ],
  };
  expect(sameWork(plain as never, said as never)).toBe(true);
  expect(sameWork(plain as never, { ...said, AlgorithmSpecification: plain.AlgorithmSpecification } as never)).toBe(false);
});

test.each([
  ["python3\n  train.py \n\n", ["python3", "train.py"]],
  ['"a\\nb"', ["a\nb"]],
  ['"unfinished', ['"unfinished']],
  ['"one" "two"', ['"one" "two"']],
])("%j is read as %j", (text, read) => {
  expect(words(text)).toEqual(read);
  expect(words(lines(read))).toEqual(read);
});

test("a cluster of several types, and an algorithm resource, come back as they were", () => {
  const resource = algorithmResource({
    AlgorithmArn: "arn:aws:sagemaker:us-west-2:123456789012:algorithm/mine",
    AlgorithmName: "mine",
    TrainingSpecification: {
      TrainingImage: "mine:1",
      SupportedHyperParameters: [
        { Name: "rate", Type: "Continuous", Range: { ContinuousParameterRangeSpecification: { MinValue: "0", MaxValue: "1" } }, IsRequired: true },
        { Name: "kind", Type: "Categorical", Range: { CategoricalParameterRangeSpecification: { Values: ["a", "b"] } }, DefaultValue: "a" },
      ],
    },
  } as never);
  const change: Partial<Draft> = {
    ...withAlgorithm("resource", resource),
    instanceGroups: [
      { name: "one", type: "ml.m5.large", count: "2" },
      { name: "two", type: "ml.c5.large", count: "1" },
    ],
    channels: [{ ...CHANNEL, uri: "s3://bucket/a", instanceGroups: ["two"] }],
  };
  expect(Object.keys(faults(draft(change)))).toEqual(["hyperparameters.rate"]);
  const made = draft({ ...change, hyperparameters: { rate: "0.5" } });
  expect(instances(made)).toBe(3);
  const request = toRequest(made);
  expect(request.AlgorithmSpecification).toEqual({ AlgorithmName: resource.id, TrainingInputMode: "File" });
  expect(request.ResourceConfig).toEqual({
    InstanceGroups: [
      { InstanceGroupName: "one", InstanceType: "ml.m5.large", InstanceCount: 2 },
      { InstanceGroupName: "two", InstanceType: "ml.c5.large", InstanceCount: 1 },
    ],
    VolumeSizeInGB: 10,
  });
  const copy = fromDescription(request as never, "", [], "123456789012", "us-west-2", resource);
  expect(toRequest(copy)).toEqual({ ...request, TrainingJobName: "job-2" });
});

test("a value without a key, and a key that stands twice, are not left out without a word", () => {
  const pairs = [{ key: "a", value: "1" }, { key: "", value: "" }, { key: "", value: "2" }, { key: "a", value: "3" }];
  for (const field of ["others", "environment", "tags"] as const) {
    expect(faults(draft({ [field]: pairs }))).toEqual({ [`${field}.2`]: { key: "fault.required" }, [`${field}.3`]: { key: "fault.twice" } });
  }
});

test.each([
  ["job", "job-2"],
  ["job-2", "job-3"],
  ["job-9", "job-10"],
  ["x".repeat(63), `${"x".repeat(61)}-2`],
])("after %s comes %s", (name, next) => expect(nextName(name)).toBe(next));
