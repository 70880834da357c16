import { expect, test } from "vitest";
import { following } from "../src/app/pages";

test("a page that is known stays known until the page before it leads elsewhere", () => {
  const all = [undefined, "b", "c"];
  expect(following([undefined], 1, "b")).toEqual([undefined, "b"]);
  expect(following([undefined], 1, undefined)).toEqual([undefined]);
  expect(following(all, 1, "b")).toEqual(all);
  expect(following(all, 3, undefined)).toEqual(all);
  expect(following(all, 1, "other")).toEqual([undefined, "other"]);
  expect(following(all, 2, undefined)).toEqual([undefined, "b"]);
});
