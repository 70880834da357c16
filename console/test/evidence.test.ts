import { expect, test } from "vitest";
import { costs, sameWork } from "../src/model/cost";
import { cipher, graph, overhead, type Report } from "../src/model/evidence";

const hosts = ["algo-1", "algo-2", "algo-3"];
const report = {
  instances: hosts.map((host, index) => ({ host, address: `10.0.0.${index}` })),
  pairs: hosts.flatMap((local) =>
    hosts
      .filter((remote) => remote !== local)
      .map((remote) => ({ local, remote, established: `${local}${remote}` !== "algo-1algo-3", bytes: 10 })),
  ),
} as unknown as Report;

test("two directions are one line", () => {
  const { nodes, edges } = graph(report);
  expect(nodes).toHaveLength(3);
  expect(edges.map((edge) => [edge.from.host, edge.to.host, edge.bytes, edge.pairs.length])).toEqual([
    ["algo-1", "algo-2", 20, 2],
    ["algo-1", "algo-3", 20, 2],
    ["algo-2", "algo-3", 20, 2],
  ]);
});

test("a line stands only if both directions do", () => {
  expect(graph(report).edges.map((edge) => edge.established)).toEqual([true, false, true]);
});

test("a cipher is written as people write it, and its absence is seen", () => {
  expect(cipher({ algorithm: "AES_GCM_16", key_bits: 256 } as never)).toBe("AES-GCM-256");
  expect(cipher({ algorithm: "", key_bits: 0 } as never)).toBe("–");
});

test("work is the same whatever the order of its members", () => {
  const one = { HyperParameters: { a: "1", b: "2" }, ResourceConfig: { InstanceCount: 2 } };
  expect(sameWork(one as never, { ...one, HyperParameters: { b: "2", a: "1" } } as never)).toBe(true);
  expect(sameWork(one as never, { ...one, HyperParameters: { a: "1" } } as never)).toBe(false);
});

test("the cost is what encryption adds to each part", () => {
  const transition = (Status: string, from: number, to?: number) =>
    ({ Status, StartTime: new Date(from * 1000), EndTime: to === undefined ? undefined : new Date(to * 1000) });
  const job = (start: number, training: number) => ({
    TrainingTimeInSeconds: training,
    SecondaryStatusTransitions: [transition("Starting", 0, 1), transition("Pending", 1, 9), transition("Starting", 9, 8 + start), transition("Training", 20)],
  });
  const [encrypted, clear] = [job(3, 12), job(2, 10)] as never[];
  expect(costs(encrypted, clear)).toEqual([
    { part: "start", encrypted: 3, clear: 2, seconds: 1, percent: 50 },
    { part: "training", encrypted: 12, clear: 10, seconds: 2, percent: 20 },
  ]);
  expect(costs(encrypted, undefined)[1]).toEqual({ part: "training", encrypted: 12, clear: undefined });
  expect(costs({} as never, clear)[0]).toEqual({ part: "start", encrypted: undefined, clear: 2 });
});

test("what ESP adds is measured on the wire", () => {
  expect(overhead({ ...report, router_guard: { esp_bytes: 66 } } as never)).toBe(10);
  expect(overhead({ ...report, router_guard: null })).toBeUndefined();
});
