/** Leaving a page on which people have entered something that is kept nowhere. */
import { useEffect, useRef, useState } from "react";
import { useHashLocation } from "wouter/use-hash-location";

export interface Leaving {
  /** Where somebody was about to go, who is to be asked. */
  to?: string;
  stay: () => void;
  /** Goes to a page without being asked. */
  leave: (to: string) => void;
}

/** Holds whoever is about to leave the page by a link, the browser's buttons or `navigate` while there is something to lose. */
export function useLeaving(something: boolean): Leaving {
  const [, navigate] = useHashLocation();
  const [to, setTo] = useState<string>();
  const decided = useRef(false);
  useEffect(() => {
    if (!something) return;
    const here = location.hash;
    const going = (event: Event) => {
      if (decided.current) return;
      // The router, which listens as well, learns nothing of it.
      event.stopImmediatePropagation();
      if (location.hash === here) return;
      setTo(location.hash.slice(1));
      history.pushState(null, "", here);
    };
    const unloading = (event: BeforeUnloadEvent) => event.preventDefault();
    // The browser's buttons make both of these, `navigate` the second.
    addEventListener("popstate", going, { capture: true });
    addEventListener("hashchange", going, { capture: true });
    addEventListener("beforeunload", unloading);
    return () => {
      removeEventListener("popstate", going, { capture: true });
      removeEventListener("hashchange", going, { capture: true });
      removeEventListener("beforeunload", unloading);
    };
  }, [something]);
  return {
    to,
    stay: () => setTo(undefined),
    leave: (where) => {
      decided.current = true;
      navigate(where);
    },
  };
}
