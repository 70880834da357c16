/** Rules of security groups as people read and write them. */
import type { IpPermission } from "@aws-sdk/client-ec2";
import { clean } from "./draft";
import { isEsp, type Rule } from "./groupRules";

/** Kinds of traffic that a new rule is chosen from. */
export const KINDS = ["ike", "esp", "all", "tcp", "udp"] as const;
export type Kind = (typeof KINDS)[number];

export interface NewRule {
  kind: Kind;
  /** "22" or "8000-8010"; for TCP and UDP. */
  ports: string;
  /** A CIDR block, or the id of a group or of a prefix list. */
  peer: string;
  description: string;
}

export const protocolOf = (rule: Rule): string =>
  isEsp(rule) ? "ESP (50)" : rule.IpProtocol === "-1" ? "*" : (rule.IpProtocol ?? "").toUpperCase();

/** The ports of a rule; undefined where it is about all, as always with ESP, which has none. */
export function portsOf(rule: Rule): string | undefined {
  const { FromPort, ToPort } = rule;
  if (isEsp(rule) || rule.IpProtocol === "-1" || FromPort === undefined || FromPort === -1) return undefined;
  if (FromPort === 0 && ToPort === 65535) return undefined;
  return FromPort === ToPort ? String(FromPort) : `${FromPort}–${ToPort}`;
}

export const peerOf = (rule: Rule): string =>
  rule.ReferencedGroupInfo?.GroupId ?? rule.PrefixListId ?? rule.CidrIpv4 ?? rule.CidrIpv6 ?? "";

/** What is wrong with a new rule, by field. */
export function ruleFaults(rule: NewRule): ("ports" | "peer")[] {
  const faults: ("ports" | "peer")[] = [];
  if ((rule.kind === "tcp" || rule.kind === "udp") && ports(rule.ports) === undefined) faults.push("ports");
  if (!/^((sg|pl)-[0-9a-f]+|\d{1,3}(\.\d{1,3}){3}\/\d{1,2}|[0-9a-fA-F:]+\/\d{1,3})$/.test(rule.peer.trim())) faults.push("peer");
  return faults;
}

/** A new rule as Authorize… takes it. */
export function permissionOf(rule: NewRule): IpPermission {
  const [from, to] = rule.kind === "ike" ? [500, 500] : (ports(rule.ports) ?? []);
  const protocol = { ike: "udp", esp: "50", all: "-1", tcp: "tcp", udp: "udp" }[rule.kind];
  const described = { Description: rule.description || undefined };
  const ranged = rule.kind === "esp" || rule.kind === "all" ? {} : { FromPort: from, ToPort: to };
  return clean({ IpProtocol: protocol, ...ranged, ...peers(rule.peer.trim(), described) });
}

function peers(peer: string, described: { Description?: string }): IpPermission {
  if (peer.startsWith("sg-")) return { UserIdGroupPairs: [{ GroupId: peer, ...described }] };
  if (peer.startsWith("pl-")) return { PrefixListIds: [{ PrefixListId: peer, ...described }] };
  return peer.includes(":") ? { Ipv6Ranges: [{ CidrIpv6: peer, ...described }] } : { IpRanges: [{ CidrIp: peer, ...described }] };
}

function ports(text: string): [number, number] | undefined {
  const match = /^(\d{1,5})(?:\s*[-–]\s*(\d{1,5}))?$/.exec(text.trim());
  if (match === null) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from <= to && to <= 65535 ? [from, to] : undefined;
}
