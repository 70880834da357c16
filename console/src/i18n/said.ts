/** What the service says of a job's status, where it always says the same: shown in the reader's language. */
import { type Key, type Words } from ".";
import { en } from "./en";

/** What it says as patterns: what stands in the place of `{name}` is its own each time. */
const PATTERNS = Object.entries(en).flatMap(([key, text]) => {
  if (!key.startsWith("said.")) return [];
  const pattern = text.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+)");
  return [[new RegExp(`^${pattern}$`, "s"), key as Key] as const];
});

/** Which of the known messages a message of SecondaryStatusTransitions is, and what it has of its own. */
export function recognised(message: string): { key: Key; values: Record<string, string> } | undefined {
  for (const [pattern, key] of PATTERNS) {
    const found = pattern.exec(message);
    if (found !== null) return { key, values: { ...found.groups } };
  }
  return undefined;
}

/** A message of SecondaryStatusTransitions; one that is not known stays as it is. */
export function said(words: Words, message: string): string {
  const found = recognised(message);
  return found === undefined ? message : words.t(found.key, found.values);
}
