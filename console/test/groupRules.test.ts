import { expect, test } from "vitest";
import { contains, covers, missingRules, type Rule } from "../src/model/groupRules";

const NETWORKS = ["10.0.1.0/24", "10.0.2.0/24"];
const self = { ReferencedGroupInfo: { GroupId: "sg-1" } };
const ike = { IpProtocol: "udp", FromPort: 500, ToPort: 500 };
const esp = { IpProtocol: "50" };

const both = (...rules: Rule[]) =>
  rules.flatMap((rule) => [
    { GroupId: "sg-1", IsEgress: false, ...rule },
    { GroupId: "sg-1", IsEgress: true, ...rule },
  ]);
const names = (rules: Rule[], groups = ["sg-1"], lists?: Map<string, string[]>) =>
  missingRules(groups, rules, NETWORKS, lists).map((missing) => `${missing.direction} ${missing.traffic}`);

test("the documented rules are all that is needed", () => {
  expect(names(both({ ...ike, ...self }, { ...esp, ...self }))).toEqual([]);
});

test("each missing rule is named", () => {
  expect(names([])).toEqual(["ingress ike", "ingress esp", "egress ike", "egress esp"]);
  expect(names(both({ ...ike, ...self }))).toEqual(["ingress esp", "egress esp"]);
});

test("all traffic to anywhere, as new groups have it, is enough for what goes out", () => {
  const fresh = { GroupId: "sg-1", IsEgress: true, IpProtocol: "-1", CidrIpv4: "0.0.0.0/0" };
  expect(names([fresh])).toEqual(["ingress ike", "ingress esp"]);
});

test("a block has to hold every subnet", () => {
  expect(names(both({ IpProtocol: "-1", CidrIpv4: "10.0.0.0/16" }))).toEqual([]);
  expect(names(both({ IpProtocol: "-1", CidrIpv4: "10.0.1.0/24" }))).toHaveLength(4);
});

test("a prefix list counts by its entries", () => {
  const rules = both({ IpProtocol: "-1", PrefixListId: "pl-1" });
  expect(names(rules, ["sg-1"], new Map([["pl-1", NETWORKS]]))).toEqual([]);
  expect(names(rules, ["sg-1"], new Map([["pl-1", NETWORKS.slice(1)]]))).toHaveLength(4);
});

test("a rule of any chosen group will do, if it names a chosen group", () => {
  const rules = both({ ...ike, ReferencedGroupInfo: { GroupId: "sg-2" } }, { ...esp, ReferencedGroupInfo: { GroupId: "sg-2" } });
  expect(names(rules, ["sg-1", "sg-2"])).toEqual([]);
  expect(names(rules, ["sg-1"])).toHaveLength(4);
});

test("ports of ESP do not matter, those of UDP do", () => {
  expect(covers({ IpProtocol: "esp", FromPort: 1, ToPort: 2 }, "esp")).toBe(true);
  expect(covers({ IpProtocol: "udp", FromPort: 0, ToPort: 65535 }, "ike")).toBe(true);
  expect(covers({ IpProtocol: "17", FromPort: 4500, ToPort: 4500 }, "ike")).toBe(false);
  expect(covers({ IpProtocol: "tcp", FromPort: 500, ToPort: 500 }, "ike")).toBe(false);
});

test.each([
  ["0.0.0.0/0", "255.255.255.255/32", true],
  ["10.0.0.0/8", "10.200.0.0/16", true],
  ["10.0.0.0/16", "10.0.0.0/8", false],
  ["10.0.0.0/24", "10.0.1.0/24", false],
  ["::/0", "10.0.0.0/8", false],
])("%s contains %s: %s", (outer, inner, yes) => expect(contains(outer, inner)).toBe(yes));
