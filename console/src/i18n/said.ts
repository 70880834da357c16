/** What the service says of a job's status, where it always says the same: shown in the reader's language. */
import { type Key, type Words } from ".";
import { en } from "./en";

const KEYS = new Map(
  Object.entries(en).flatMap(([key, text]) => (key.startsWith("said.") ? [[text, key as Key] as const] : [])),
);

/** A message of SecondaryStatusTransitions; one that is not known stays as it is. */
export function said(words: Words, message: string): string {
  const key = KEYS.get(message);
  return key === undefined ? message : words.t(key);
}
