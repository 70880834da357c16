/** Tables whose pages the service cuts. */
import { type DependencyList, useMemo, useState } from "react";
import { type Polled, usePoll } from "./poll";
import { remember, remembered } from "./remembered";

export interface Cut<Item> {
  items: Item[];
  next?: string;
}

export interface Paged<Item> extends Polled<Cut<Item>> {
  /** Number of the page that is shown, from 1, and how many are known. */
  page: number;
  known: number;
  turn: (page: number) => void;
}

/** The tokens by which pages are found; the first page needs none. */
type Tokens = (string | undefined)[];

interface Turned {
  page: number;
  tokens: Tokens;
  /** What was asked for: the pages of something else are others. */
  about: string;
}

const FIRST = { page: 1, tokens: [undefined] as Tokens };
const PLACE = "turned";

/**
 * Asks `ask(token)` for a page at a time. A page is found by the token that the page before it gave, so that pages are reached
 * one after the other, whatever the number of items. Begins anew when `dependencies` change; `about` says what is asked for, so
 * that the page is found again that the browser goes back to.
 */
export function usePages<Item>(
  ask: (token: string | undefined) => Promise<Cut<Item>>,
  dependencies: DependencyList,
  every: (cut: Cut<Item>) => number | undefined,
  about = "",
): Paged<Item> {
  const question = useMemo(() => Symbol(), dependencies);
  const [turned, setTurned] = useState(() => {
    const before = remembered<Turned>(PLACE);
    return { ...(before?.about === about ? before : FIRST), question };
  });
  const { page, tokens } = turned.question === question ? turned : FIRST;
  const token = tokens[page - 1];
  const polled = usePoll(() => ask(token), [question, token], every);
  const known = polled.value === undefined ? tokens : following(tokens, page, polled.value.next);
  const turn = (to: number) => {
    remember(PLACE, { page: to, tokens: known, about } satisfies Turned);
    setTurned({ question, page: to, tokens: known });
  };
  return { ...polled, page, known: known.length, turn };
}

/** The tokens once `page` has answered that `next` finds the page after it, or that there is none. */
export function following(tokens: Tokens, page: number, next: string | undefined): Tokens {
  if (next === tokens[page]) return tokens;
  return [...tokens.slice(0, page), ...(next === undefined ? [] : [next])];
}
