/**
 * Whether security groups let the instances of an encrypted job speak IKE and ESP to each other: UDP 500 and protocol 50, in and
 * out. The same question that the service asks before the job starts (its preflight), asked before the job is created.
 */

/** What EC2's DescribeSecurityGroupRules says of a rule, as far as it matters. */
export interface Rule {
  SecurityGroupRuleId?: string;
  GroupId?: string;
  IsEgress?: boolean;
  IpProtocol?: string;
  FromPort?: number;
  ToPort?: number;
  CidrIpv4?: string;
  CidrIpv6?: string;
  PrefixListId?: string;
  ReferencedGroupInfo?: { GroupId?: string };
  Description?: string;
}

export interface Missing {
  direction: "ingress" | "egress";
  traffic: "ike" | "esp";
}

const IKE_PORT = 500;
const ESP = ["50", "esp"];
const UDP = ["17", "udp"];

export const isEsp = (rule: Rule) => ESP.includes(rule.IpProtocol ?? "");

/** Whether a rule is about IKE (UDP 500) or ESP. ESP has no ports: EC2 ignores those that a rule says. */
export function covers(rule: Rule, traffic: Missing["traffic"]): boolean {
  const protocol = rule.IpProtocol ?? "";
  if (protocol === "-1") return true;
  if (traffic === "esp") return ESP.includes(protocol);
  return UDP.includes(protocol) && (rule.FromPort ?? 0) <= IKE_PORT && IKE_PORT <= (rule.ToPort ?? -1);
}

/**
 * The rules that are missing between instances that all have `groups` and addresses in `networks` (CIDR blocks of the subnets).
 * `prefixLists` has the blocks of each prefix list that a rule names. A rule in any of the groups will do, as in EC2.
 */
export function missingRules(
  groups: readonly string[],
  rules: readonly Rule[],
  networks: readonly string[],
  prefixLists: ReadonlyMap<string, readonly string[]> = new Map(),
): Missing[] {
  const names = (rule: Rule) => {
    if (rule.ReferencedGroupInfo?.GroupId !== undefined) return groups.includes(rule.ReferencedGroupInfo.GroupId);
    const blocks = rule.PrefixListId === undefined ? [rule.CidrIpv4 ?? ""] : (prefixLists.get(rule.PrefixListId) ?? []);
    return networks.length > 0 && networks.every((network) => blocks.some((block) => contains(block, network)));
  };
  const missing: Missing[] = [];
  for (const direction of ["ingress", "egress"] as const) {
    for (const traffic of ["ike", "esp"] as const) {
      const allowed = rules.some(
        (rule) =>
          groups.includes(rule.GroupId ?? "") &&
          rule.IsEgress === (direction === "egress") &&
          covers(rule, traffic) &&
          names(rule),
      );
      if (!allowed) missing.push({ direction, traffic });
    }
  }
  return missing;
}

/** The permission, as Authorize… takes it, that lets `group` send or receive what is missing. */
export function permission(missing: Missing, group: string, description?: string) {
  const pairs = { UserIdGroupPairs: [{ GroupId: group, Description: description }] };
  return missing.traffic === "ike"
    ? { IpProtocol: "udp", FromPort: IKE_PORT, ToPort: IKE_PORT, ...pairs }
    : { IpProtocol: "50", ...pairs };
}

/** Whether IPv4 block `outer` contains all of block `inner`. False for anything that is no IPv4 block. */
export function contains(outer: string, inner: string): boolean {
  const one = block(outer);
  const other = block(inner);
  if (one === undefined || other === undefined || one.length > other.length) return false;
  const size = 2 ** (32 - one.length);
  return Math.floor(one.address / size) === Math.floor(other.address / size);
}

function block(text: string): { address: number; length: number } | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  if (match === null) return undefined;
  const [a, b, c, d, length] = match.slice(1).map(Number) as [number, number, number, number, number];
  return { address: ((a * 256 + b) * 256 + c) * 256 + d, length };
}
