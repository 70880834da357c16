/** Asking the service for something that changes. */
import { type DependencyList, useCallback, useEffect, useRef, useState } from "react";

export interface Polled<Value> {
  value?: Value;
  error?: unknown;
  /** True until the first answer to the present question. */
  loading: boolean;
  refresh: () => void;
}

/**
 * Asks by `ask` now, when `dependencies` change, and `every(answer)` milliseconds after each answer (undefined: not again).
 * While the page is hidden it waits. A failed question is asked again, and leaves the last answer standing.
 */
export function usePoll<Value>(
  ask: () => Promise<Value>,
  dependencies: DependencyList,
  every: (value: Value) => number | undefined = () => undefined,
): Polled<Value> {
  const [state, setState] = useState<{ value?: Value; error?: unknown; loading: boolean }>({ loading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef({ ask, every });
  latest.current = { ask, every };
  useEffect(() => {
    let live = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = (wait: number | undefined) => {
      if (live && wait !== undefined) timer = setTimeout(() => (document.hidden ? later(wait) : void run()), wait);
    };
    const run = async () => {
      try {
        const value = await latest.current.ask();
        if (live) setState({ value, loading: false });
        later(latest.current.every(value));
      } catch (error) {
        if (live) setState((before) => ({ value: before.value, error, loading: false }));
        later(RETRY);
      }
    };
    void run();
    return () => {
      live = false;
      clearTimeout(timer);
    };
    // The question itself is in `latest`.
  }, [...dependencies, turn]);
  const refresh = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, refresh };
}

const RETRY = 5000;
