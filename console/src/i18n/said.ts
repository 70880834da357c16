/** What the service says of a job, where it always says the same: shown in the reader's language. */
import { type Key, type Words } from ".";
import { en } from "./en";

interface Found {
  key: Key;
  values: Record<string, string>;
}

/** The English texts under a prefix as patterns: what stands in the place of `{name}` is its own each time. */
function reader(prefix: string): (text: string) => Found | undefined {
  const patterns = Object.entries(en).flatMap(([key, text]) => {
    if (!key.startsWith(prefix)) return [];
    const pattern = text.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+)");
    return [[new RegExp(`^${pattern}$`, "s"), key as Key] as const];
  });
  return (text) => {
    for (const [pattern, key] of patterns) {
      const found = pattern.exec(text);
      if (found !== null) return { key, values: { ...found.groups } };
    }
    return undefined;
  };
}

/** Which of the known messages a message of SecondaryStatusTransitions is, and what it has of its own. */
export const recognised = reader("said.");
const cause = reader("why.");

/** A message of SecondaryStatusTransitions; one that is not known stays as it is. */
export function said(words: Words, message: string): string {
  const found = recognised(message);
  if (found === undefined) return message;
  const { reason } = found.values;
  return words.t(found.key, reason === undefined ? found.values : { ...found.values, reason: explained(words, reason) });
}

/** Where the parts of a FailureReason about missing rules begin (jobs/preflight.py). */
const PARTS = / (?=Security groups? sg-|An encrypted job needs |More groups |Run: |More commands )/;
const RULE = /^no (inbound|outbound) rule for (ESP|IKE) \([^)]*\) (?:from|to) (?:itself|themselves)$/;

/** Why something is so; what is not known of it stays as it is. */
export function explained(words: Words, reason: string): string {
  if (words.locale === "en") return reason;
  const { t } = words;
  const rule = (text: string) => {
    const found = RULE.exec(text);
    if (found === null) return text;
    return t(`check.${found[1] === "inbound" ? "ingress" : "egress"}.${found[2] === "ESP" ? "esp" : "ike"}` satisfies Key);
  };
  const part = (text: string) => {
    const found = cause(text);
    if (found === undefined) return text;
    const { guard, rules, ...rest } = found.values;
    if (guard !== undefined) return t(found.key, { guard: guardName(words, guard) });
    return t(found.key, rules === undefined ? rest : { ...rest, rules: rules.split(/, (?=no )/).map(rule).join("、") });
  };
  return reason.split(PARTS).map(part).join(" ");
}

/** A guard by its name in a report. */
export function guardName({ t }: Words, name: string): string {
  return name === "kernel" ? t("guard.kernel") : name === "router" ? t("guard.router") : name;
}
