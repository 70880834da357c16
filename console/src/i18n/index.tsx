/** What the console says: every string lies in a catalogue, and dates and numbers follow the language. */
import { I18nProvider as Cloudscape } from "@cloudscape-design/components/i18n";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import { en } from "./en";

export type Key = keyof typeof en;
export type Catalogue = Record<Key, string>;
export type Locale = "en" | "ja";
export type Values = Record<string, string | number>;

export interface Words {
  locale: Locale;
  /** The text of `key`, with `{name}` replaced by `values`. Numbers are written as the language writes them. */
  t: (key: Key, values?: Values) => string;
  number: (value: number, digits?: number) => string;
  /** A measured value, of any size: so many digits that count, or behind the point, whichever says more. */
  measured: (value: number, digits?: number) => string;
  /** A moment with seconds, in the browser's time zone, which it names. */
  moment: (value: Date | number | undefined) => string;
  /** Seconds in words, such as "1 min 5 s". */
  duration: (seconds: number) => string;
  bytes: (count: number) => string;
}

export const LOCALES: Record<Locale, string> = { en: "English", ja: "日本語" };

/** Sizes of measured values from and to which they are written without powers of ten. */
const SMALLEST = 1e-4;
const LARGEST = 1e15;

export function words(locale: Locale, catalogue: Catalogue): Words {
  const tag = locale === "ja" ? "ja-JP" : "en-US";
  const number = (value: number, digits = 3) => new Intl.NumberFormat(tag, { maximumFractionDigits: digits }).format(value);
  const measured = (value: number, digits = 6) => {
    const size = Math.abs(value);
    const notation = size !== 0 && (size < SMALLEST || size >= LARGEST) ? "scientific" : "standard";
    const precise = { maximumFractionDigits: digits, roundingPriority: "morePrecision" } as const;
    const options = notation === "standard" ? precise : {};
    return new Intl.NumberFormat(tag, { notation, maximumSignificantDigits: digits, ...options }).format(value);
  };
  const clock = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "long" });
  const t = (key: Key, values?: Values) =>
    catalogue[key].replace(/\{(\w+)\}/g, (hole, name: string) => {
      const value = values?.[name];
      return value === undefined ? hole : typeof value === "number" ? number(value) : value;
    });
  return {
    locale,
    t,
    number,
    measured,
    moment: (value) => (value === undefined ? "–" : clock.format(value)),
    duration: (seconds) => {
      const whole = Math.round(seconds);
      const parts: [number, Key][] = [
        [Math.floor(whole / 3600), "unit.hours"],
        [Math.floor((whole % 3600) / 60), "unit.minutes"],
        [whole % 60, "unit.seconds"],
      ];
      const shown = parts.filter(([count]) => count > 0);
      return (shown.length > 0 ? shown : parts.slice(2)).map(([count, unit]) => t(unit, { count })).join(" ");
    },
    bytes: (count) => {
      const units: Key[] = ["unit.bytes", "unit.kib", "unit.mib", "unit.gib", "unit.tib"];
      const power = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1);
      return t(units[power]!, { count: number(count / 1024 ** power, power === 0 ? 0 : 1) });
    },
  };
}

const Context = createContext<Words>(words("en", en));

export const useWords = () => useContext(Context);

interface Loaded {
  words: Words;
  cloudscape: object[];
}

async function load(locale: Locale): Promise<Loaded> {
  if (locale === "ja") {
    const [own, theirs] = await Promise.all([import("./ja"), import("@cloudscape-design/components/i18n/messages/all.ja")]);
    return { words: words("ja", own.ja), cloudscape: [theirs.default] };
  }
  const theirs = await import("@cloudscape-design/components/i18n/messages/all.en");
  return { words: words("en", en), cloudscape: [theirs.default] };
}

/** Gives its children the words of a language; shows nothing until they are there. */
export function Language({ locale, children }: { locale: Locale; children: ReactNode }) {
  const [loaded, setLoaded] = useState<Loaded>();
  useEffect(() => {
    let current = true;
    void load(locale).then((next) => current && setLoaded(next));
    return () => {
      current = false;
    };
  }, [locale]);
  useEffect(() => {
    document.documentElement.lang = loaded?.words.locale ?? locale;
  }, [loaded, locale]);
  const messages = useMemo(() => loaded?.cloudscape as Parameters<typeof Cloudscape>[0]["messages"], [loaded]);
  if (loaded === undefined) return null;
  return (
    <Context.Provider value={loaded.words}>
      <Cloudscape locale={loaded.words.locale} messages={messages}>
        {children}
      </Cloudscape>
    </Context.Provider>
  );
}
