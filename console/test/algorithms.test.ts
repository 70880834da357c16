import { expect, test } from "vitest";
import { algorithmOf, allows, range } from "../src/model/algorithms";

test("an image is known by its repository alone", () => {
  expect(algorithmOf("246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:1.7-1")?.id).toBe("xgboost");
  expect(algorithmOf("xgboost@sha256:0")?.id).toBe("xgboost");
  expect(algorithmOf("registry:5000/my-xgboost")).toBeUndefined();
});

test("a number may also be a word where the algorithm says so", () => {
  const rate = { name: "rate", kind: "Continuous", min: 0, openMin: true, words: ["auto"] } as const;
  expect(["auto", "0.1", "0", "high"].map((text) => allows({ ...rate, words: [...rate.words] }, text))).toEqual([true, true, false, false]);
});

test("ranges are open where they say so", () => {
  const sample = { name: "subsample", kind: "Continuous", min: 0, max: 1, openMin: true } as const;
  expect(range(sample)).toBe("(0, 1]");
  expect([0, 0.5, 1, 1.1].map((value) => allows(sample, String(value)))).toEqual([false, true, true, false]);
  expect(allows({ name: "depth", kind: "Integer", min: 0 }, "1.5")).toBe(false);
  expect(allows({ name: "depth", kind: "Integer", min: 0 }, "")).toBe(false);
});
