/** Notices at the head of the page: what was done, and what failed. */
import Flashbar, { type FlashbarProps } from "@cloudscape-design/components/flashbar";
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { isSignedOut, wording } from "../aws/errors";
import { useWords } from "../i18n";
import { useAccess } from "./session";

interface Notices {
  done: (text: string) => void;
  failed: (error: unknown) => void;
}

const Context = createContext<Notices | undefined>(undefined);
const Items = createContext<FlashbarProps.MessageDefinition[]>([]);

export const useNotices = () => useContext(Context)!;

export function NoticesProvider({ children }: { children: ReactNode }) {
  const { t } = useWords();
  const { signOut } = useAccess();
  const [items, setItems] = useState<FlashbarProps.MessageDefinition[]>([]);
  const add = useCallback(
    (type: "success" | "error", content: string) => {
      const id = crypto.getRandomValues(new Uint32Array(1)).join();
      const dismiss = () => setItems((all) => all.filter((item) => item.id !== id));
      // An alert gets the focus, and so is in view also where the notices do not stick: on narrow screens.
      const ariaRole = type === "error" ? ("alert" as const) : ("status" as const);
      const item = { id, type, ariaRole, content, dismissible: true, dismissLabel: t("common.dismiss"), onDismiss: dismiss };
      // The same words twice say nothing new.
      setItems((all) => [item, ...all.filter((other) => other.content !== content)].slice(0, 4));
    },
    [t],
  );
  const notices = useMemo(
    () => ({
      done: (text: string) => add("success", text),
      failed: (error: unknown) => {
        if (isSignedOut(error)) signOut(error);
        else add("error", wording(error));
      },
    }),
    [add, signOut],
  );
  return (
    <Context.Provider value={notices}>
      <Items.Provider value={items}>{children}</Items.Provider>
    </Context.Provider>
  );
}

export function NoticeBar() {
  return <Flashbar items={useContext(Items)} />;
}
