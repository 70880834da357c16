import { expect, test } from "vitest";
import { savings } from "../src/model/cost";

test("a managed spot job saves what it is not billed for, once it has ended", () => {
  const job = { EnableManagedSpotTraining: true, TrainingTimeInSeconds: 100, BillableTimeInSeconds: 30 };
  expect(savings(job as never)).toBe(70);
  expect(savings({ ...job, EnableManagedSpotTraining: false } as never)).toBeUndefined();
  expect(savings({ ...job, TrainingTimeInSeconds: undefined, BillableTimeInSeconds: undefined } as never)).toBeUndefined();
});
