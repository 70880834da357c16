import { expect, test } from "vitest";
import { ALGORITHMS } from "../src/model/algorithms";
import { python, trainingJobCode, tuningJobCode } from "../src/model/code";
import { emptyDraft, toRequest } from "../src/model/draft";
import { emptyTuning, toTuningRequest } from "../src/model/tuning";

test("values are Python's", () => {
  expect(python({ a: true, b: [1, "x'\n"], c: {}, d: undefined })).toBe(
    '{\n    "a": True,\n    "b": [\n        1,\n        "x\'\\n",\n    ],\n    "c": {},\n    "d": None,\n}',
  );
});

test("SDK v3 is given every member by its own name, and people's names as they are", () => {
  const draft = { ...emptyDraft("123456789012", "us-west-2"), name: "job", encrypt: true, environment: [{ key: "MyKey", value: "1" }] };
  const code = trainingJobCode(toRequest(draft)).find(({ title }) => title === "SageMaker Python SDK v3")!.text;
  for (const line of ['    training_job_name="job",', '        "volume_size_in_gb": 10,', "    enable_inter_container_traffic_encryption=True,", '        "MyKey": "1",']) {
    expect(code.split("\n")).toContain(line);
  }
});

test("a tuning job's code has its ranges, and what it goes on from", () => {
  const draft = { ...emptyDraft("123456789012", "us-west-2"), name: "tune", encrypt: true };
  const request = toTuningRequest(draft, { ...emptyTuning(ALGORITHMS[0]), parents: ["before"], convergence: true });
  const texts = Object.fromEntries(tuningJobCode(request).map(({ title, text }) => [title, text]));
  expect(texts["SageMaker Python SDK v2"]).toContain('"eta": ContinuousParameter(0.1, 0.5, "Auto"),');
  expect(texts["SageMaker Python SDK v2"]).toContain('WarmStartConfig(WarmStartTypes("IdenticalDataAndAlgorithm"), {"before"})');
  expect(texts["SageMaker Python SDK v2"]).toContain("encrypt_inter_container_traffic=True");
  expect(texts["SageMaker Python SDK v3"]).toContain("HyperParameterTuningJob.create(");
});

test("a shell reads the AWS CLI's JSON as it is", () => {
  const code = trainingJobCode({ ...toRequest(emptyDraft("123456789012", "us-west-2")), HyperParameters: { quote: "it's" } });
  const cli = code.find(({ title }) => title === "AWS CLI")!.text;
  const json = /--cli-input-json '([\s\S]*)'\n$/.exec(cli)![1]!.replaceAll(`'\\''`, "'");
  expect(JSON.parse(json).HyperParameters).toEqual({ quote: "it's" });
});
