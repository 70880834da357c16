/** Language, and light or dark: kept in the browser; at first as the browser has them. */
import { applyMode, Mode } from "@cloudscape-design/global-styles";
import { createContext, type ReactNode, useContext, useLayoutEffect, useMemo, useState } from "react";
import { Language, type Locale } from "../i18n";

interface Preferences {
  locale: Locale;
  dark: boolean;
  setLocale: (locale: Locale) => void;
  setDark: (dark: boolean) => void;
}

const Context = createContext<Preferences | undefined>(undefined);

export const usePreferences = () => useContext(Context)!;

function useKept<Value extends string>(place: string, initial: Value): [Value, (value: Value) => void] {
  const [value, setValue] = useState(() => (localStorage.getItem(place) as Value | null) ?? initial);
  const keep = (next: Value) => {
    localStorage.setItem(place, next);
    setValue(next);
  };
  return [value, keep];
}

export function PreferencesProvider({ children }: { children: ReactNode }) {
  const [locale, setLocale] = useKept<Locale>("phalanx.locale", navigator.language.startsWith("ja") ? "ja" : "en");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const [mode, setMode] = useKept<"light" | "dark">("phalanx.mode", system);
  const dark = mode === "dark";
  useLayoutEffect(() => {
    applyMode(dark ? Mode.Dark : Mode.Light);
  }, [dark]);
  const preferences = useMemo(
    () => ({ locale, dark, setLocale, setDark: (next: boolean) => setMode(next ? "dark" : "light") }),
    [locale, dark],
  );
  return (
    <Context.Provider value={preferences}>
      <Language locale={locale}>{children}</Language>
    </Context.Provider>
  );
}
