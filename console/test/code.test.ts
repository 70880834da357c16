import { expect, test } from "vitest";
import { python, trainingJobCode } from "../src/model/code";
import { emptyDraft, toRequest } from "../src/model/draft";

test("values are Python's", () => {
  expect(python({ a: true, b: [1, "x'\n"], c: {}, d: undefined })).toBe(
    '{\n    "a": True,\n    "b": [\n        1,\n        "x\'\\n",\n    ],\n    "c": {},\n    "d": None,\n}',
  );
});

test("a shell reads the AWS CLI's JSON as it is", () => {
  const code = trainingJobCode({ ...toRequest(emptyDraft("123456789012", "us-west-2")), HyperParameters: { quote: "it's" } });
  const cli = code.find(({ title }) => title === "AWS CLI")!.text;
  const json = /--cli-input-json '([\s\S]*)'\n$/.exec(cli)![1]!.replaceAll(`'\\''`, "'");
  expect(JSON.parse(json).HyperParameters).toEqual({ quote: "it's" });
});
