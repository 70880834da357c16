import { expect, test } from "vitest";
import { algorithmResource } from "../src/model/algorithms";
import { CHANNEL, type Draft, emptyDraft, faults, fromDescription, instances, nextName, toRequest, withAlgorithm } from "../src/model/draft";
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

test.each([
  ["job", "job-2"],
  ["job-2", "job-3"],
  ["job-9", "job-10"],
  ["x".repeat(63), `${"x".repeat(61)}-2`],
])("after %s comes %s", (name, next) => expect(nextName(name)).toBe(next));
