/** Asking the service for something that changes. */
import { type DependencyList, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { isSignedOut } from "../aws/errors";
import { useAccess } from "./session";

interface State<Value> {
  value?: Value;
  error?: unknown;
  /** True until the first answer to the present question; a failure is none. */
  loading: boolean;
}

export interface Polled<Value> extends State<Value> {
  refresh: () => void;
}

/**
 * Asks by `ask` now, when `dependencies` change, and `every(answer)` milliseconds after each answer (undefined: not again), as
 * `every` was when it asked. While the page is hidden it waits. A failed question is asked again, and leaves the last answer
 * standing; other dependencies make another question, to which there is no answer yet. A key that is not known any more signs out.
 */
export function usePoll<Value>(
  ask: () => Promise<Value>,
  dependencies: DependencyList,
  every: (value: Value) => number | undefined = () => undefined,
): Polled<Value> {
  const { signOut } = useAccess();
  const question = useMemo(() => Symbol(), dependencies);
  const [state, setState] = useState<State<Value> & { question: symbol }>({ question, loading: true });
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
      const { ask, every } = latest.current;
      try {
        const value = await ask();
        if (live) setState({ question, value, loading: false });
        later(every(value));
      } catch (error) {
        if (live && isSignedOut(error)) signOut(error);
        if (live) setState((before) => ({ ...(before.question === question ? before : { question, loading: true }), error }));
        later(RETRY);
      }
    };
    void run();
    return () => {
      live = false;
      clearTimeout(timer);
    };
    // The question itself is in `latest`.
  }, [question, turn]);
  const refresh = useCallback(() => setTurn((before) => before + 1), []);
  const { value, error, loading } = state.question === question ? state : { loading: true };
  return { value, error, loading, refresh };
}

const RETRY = 5000;
