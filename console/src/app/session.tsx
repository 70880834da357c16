/** Who is signed in. The key lives in this tab alone (sessionStorage): closing it, or signing out, forgets it. */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { type Clients, clients, type Identity, identify, type Key, type Settings } from "../aws/clients";

const PLACE = "phalanx.session";

interface Session {
  key: Key;
  identity: Identity;
}

interface Access {
  settings: Settings;
  session?: Session;
  signIn: (key: Key) => Promise<void>;
  /** Forgets the key: at the user's wish, or because the service refused it. */
  signOut: (refusal?: unknown) => void;
  /** Why the service does not take the key any more that was signed in with. */
  refusal?: unknown;
}

const Context = createContext<Access | undefined>(undefined);
const Aws = createContext<Clients | undefined>(undefined);

function kept(): Session | undefined {
  const text = sessionStorage.getItem(PLACE);
  return text === null ? undefined : (JSON.parse(text) as Session);
}

export function SessionProvider({ settings, children }: { settings: Settings; children: ReactNode }) {
  const [session, setSession] = useState(kept);
  const [refusal, setRefusal] = useState<unknown>();
  const signIn = useCallback(async (key: Key) => {
    const next = { key, identity: await identify(key) };
    sessionStorage.setItem(PLACE, JSON.stringify(next));
    setSession(next);
  }, []);
  const signOut = useCallback((why?: unknown) => {
    sessionStorage.removeItem(PLACE);
    setSession(undefined);
    setRefusal(why);
  }, []);
  const access = useMemo(
    () => ({ settings, session, signIn, signOut, refusal }),
    [settings, session, signIn, signOut, refusal],
  );
  const made = useMemo(() => (session === undefined ? undefined : clients(session.key, settings)), [session, settings]);
  return (
    <Context.Provider value={access}>
      <Aws.Provider value={made}>{children}</Aws.Provider>
    </Context.Provider>
  );
}

export function useAccess(): Access {
  return useContext(Context)!;
}

/** The clients of whoever is signed in; pages are shown to nobody else. */
export function useAws(): Clients {
  return useContext(Aws)!;
}

export function useIdentity(): Identity {
  return useAccess().session!.identity;
}
