import { expect, test, vi } from "vitest";
import { clients } from "../src/aws/clients";

vi.stubGlobal("location", new URL("http://127.0.0.1:8770/console/"));
const made = clients(
  { accessKeyId: "AKIAEXAMPLE", secretAccessKey: "secret", region: "eu-west-1" },
  { region: "us-west-2", s3: "http://127.0.0.1:9000" },
);

test("the service's own region is not the one that is signed for", async () => {
  expect(made.home).toBe("us-west-2");
  expect(await made.sagemaker.config.region()).toBe("eu-west-1");
});

test("what signatures escape is escaped in the URL of a download", async () => {
  const url = await made.download("s3://bucket/モデル/run (1)'s!*/model.tar.gz");
  expect(url.split("?")[0]).toBe(
    "http://127.0.0.1:9000/bucket/%E3%83%A2%E3%83%87%E3%83%AB/run%20%281%29%27s%21%2A/model.tar.gz",
  );
});
