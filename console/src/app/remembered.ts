/** What a page was set to, which is so again when the browser goes back to it, or loads it anew. */
import { useState } from "react";

const kept = () => (history.state ?? {}) as Record<string, unknown>;

/** What the present entry of the browser's history has under a name. */
export const remembered = <Value>(name: string) => kept()[name] as Value | undefined;

export function remember(name: string, value: unknown): void {
  history.replaceState({ ...kept(), [name]: value }, "");
}

/** State that the entry of the browser's history keeps; another entry for the same page begins with `initial`. */
export function useRemembered<Value>(name: string, initial: Value): [Value, (value: Value) => void] {
  const [value, setValue] = useState(() => remembered<Value>(name) ?? initial);
  const set = (next: Value) => {
    remember(name, next);
    setValue(next);
  };
  return [value, set];
}
