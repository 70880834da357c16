import { expect, test } from "vitest";
import { costs, sameWork } from "../src/model/cost";
import { cipher, graph, overhead, type Report, verdict } from "../src/model/evidence";

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

test("a verdict is over all attempts at a job", () => {
  const good = { ...report, encryption_requested: true, ran: true, encrypted: true, gaps: [], capture: { clear: 0 } } as unknown as Report;
  const idle = { ...good, ran: false, encrypted: false, pairs: [] };
  const after = (...earlier: object[]) => ({ ...good, earlier_attempts: earlier as Report[] });
  const texts = (...reports: Report[]) => reports.map((each) => verdict(each, true).text.split(".")[1]);
  expect(texts(good, after(good), { ...idle, earlier_attempts: [good] })).toEqual(["proven", "proven", "proven"]);
  expect(texts({ ...good, ran: undefined, earlier_attempts: undefined })).toEqual(["proven"]);
  const [seen, gap] = [{ ...good, capture: { clear: 2, milliseconds_away: 0 } }, { ...good, gaps: ["algo-2 was gone"] }];
  expect(texts(seen, after(seen), after(good, seen), after(gap, seen))).toEqual(["clear", "clear", "clear", "clear"]);
  expect(texts(gap, after(gap), { ...idle, earlier_attempts: [gap] }, { ...good, encrypted: false })).toEqual(["gaps", "gaps", "gaps", "gaps"]);
  expect(texts({ ...idle, gaps: ["algo-2 did not start"] })).toEqual(texts(idle));
  expect(texts(idle, { ...good, encryption_requested: false, encrypted: false })).toEqual(["nothing", "off"]);
  expect([good, { ...idle, pairs: good.pairs }, idle, gap].map((each) => verdict(each, false).text.split(".")[1])).toEqual(["live", "live", "notYet", "gaps"]);
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
