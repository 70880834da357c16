/** The encryption report of a job, as the service writes it (jobs/evidence.py). */
export interface Pair {
  local: string;
  remote: string;
  established: boolean;
  algorithm: string;
  key_bits: number;
  esn: boolean;
  ike: string;
  ppk: boolean;
  spi: string;
  packets: number;
  bytes: number;
  packets_received: number | null;
  bytes_received: number | null;
  rekeys: number;
  key_age_seconds: number | null;
}

export interface Instance {
  host: string;
  address: string;
  security_groups: string[];
  plaintext_blocked_out: number | null;
  plaintext_blocked_in: number | null;
  interruptions: string[];
  /** Which guards held, from when on; missing in reports of version 1. */
  guards?: { changes: { at: number; held_by: string[]; cause: string }[] };
}

export interface Report {
  job: string;
  measured_at: number;
  encryption_requested: boolean;
  /** Whether containers were started; missing in reports before version 3. */
  ran?: boolean;
  encrypted: boolean;
  note: string;
  data_plane: string | null;
  instances: Instance[];
  pairs: Pair[];
  router_guard: { esp_packets: number; esp_bytes: number; ike_packets: number; dropped_packets: number } | null;
  plaintext_packets_dropped: number;
  /** What was seen on the wires by no guard; missing in reports of version 1, null where nothing was watched. */
  capture?: { clear: number; milliseconds_away: number } | null;
  gaps: string[];
  /** The reports of attempts that others followed, oldest first; missing in reports of version 1. */
  earlier_attempts?: Report[];
  signature?: { public_key: string };
}

export interface Verdict {
  type: "info" | "success" | "warning" | "error";
  text: `encryption.${"off" | "clear" | "gaps" | "notYet" | "nothing" | "live" | "proven"}`;
}

/** What a report says of a job of several instances: of all attempts at it together. */
export function verdict(report: Report, signed: boolean): Verdict {
  if (!report.encryption_requested) return { type: "warning", text: "encryption.off" };
  const attempts = [report, ...(report.earlier_attempts ?? [])];
  if (attempts.some(({ capture }) => (capture?.clear ?? 0) > 0)) return { type: "error", text: "encryption.clear" };
  const ran = attempts.filter((each) => each.ran ?? each.pairs.length > 0);
  // Where no container was started there was nothing to measure; before version 3 a report did not tell.
  const measured = attempts.filter((each) => each.ran !== false);
  if (measured.some(({ gaps }) => gaps.length > 0) || ran.some(({ encrypted }) => !encrypted)) return { type: "warning", text: "encryption.gaps" };
  if (signed) return ran.length > 0 ? { type: "success", text: "encryption.proven" } : { type: "info", text: "encryption.nothing" };
  return report.pairs.length > 0 ? { type: "success", text: "encryption.live" } : { type: "info", text: "encryption.notYet" };
}

export interface Node {
  host: string;
  address: string;
  /** Plaintext packets that the instance itself stopped; undefined where it did not tell. */
  blocked?: number;
  x: number;
  y: number;
}

/** The two directions between two instances. */
export interface Edge {
  from: Node;
  to: Node;
  pairs: Pair[];
  established: boolean;
  bytes: number;
}

/** The instances on a circle of radius 1, the first at the left, and what lies between them. */
export function graph(report: Report): { nodes: Node[]; edges: Edge[] } {
  const count = report.instances.length;
  const nodes = report.instances.map((instance, index) => {
    const angle = Math.PI + (2 * Math.PI * index) / Math.max(count, 1);
    const { host, address, plaintext_blocked_out: out, plaintext_blocked_in: into } = instance;
    return { host, address, blocked: out === null || into === null ? undefined : out + into, x: Math.cos(angle), y: Math.sin(angle) };
  });
  const byHost = new Map(nodes.map((node) => [node.host, node]));
  const edges = new Map<string, Edge>();
  for (const pair of report.pairs) {
    const from = byHost.get(pair.local);
    const to = byHost.get(pair.remote);
    if (from === undefined || to === undefined) continue;
    const name = [pair.local, pair.remote].sort().join("/");
    const edge = edges.get(name) ?? { from, to, pairs: [], established: true, bytes: 0 };
    edge.pairs.push(pair);
    edge.bytes += pair.bytes;
    edge.established &&= pair.established;
    edges.set(name, edge);
  }
  return { nodes, edges: [...edges.values()] };
}

/** How much more than the instances sent went over the wire, in percent: what ESP adds. Undefined where nothing was sent. */
export function overhead(report: Report): number | undefined {
  const sent = report.pairs.reduce((sum, pair) => sum + pair.bytes, 0);
  const wire = report.router_guard?.esp_bytes ?? 0;
  return sent > 0 && wire >= sent ? (100 * (wire - sent)) / sent : undefined;
}

/** "AES_GCM_16" and 256 as people write it: "AES-GCM-256". */
export function cipher(pair: Pair): string {
  return pair.algorithm === "" ? "–" : `${pair.algorithm.replace(/_16$/, "").replaceAll("_", "-")}-${pair.key_bits}`;
}
