/** Tables whose pages the service cuts. */
import { type DependencyList, useEffect, useState } from "react";
import { type Polled, usePoll } from "./poll";

export interface Cut<Item> {
  items: Item[];
  next?: string;
}

export interface Paged<Item> extends Polled<Cut<Item>> {
  /** Number of the page that is shown, from 1, and how many are known. */
  page: number;
  known: number;
  /** Whether more pages follow those that are known. */
  open: boolean;
  turn: (page: number) => void;
}

/**
 * Asks `ask(token)` for a page at a time. A page is found by the token that the page before it gave, so that pages are reached
 * one after the other, whatever the number of items. Begins anew when `dependencies` change.
 */
export function usePages<Item>(
  ask: (token: string | undefined) => Promise<Cut<Item>>,
  dependencies: DependencyList,
  every: (cut: Cut<Item>) => number | undefined,
): Paged<Item> {
  const [page, setPage] = useState(1);
  const [tokens, setTokens] = useState<(string | undefined)[]>([undefined]);
  useEffect(() => {
    setPage(1);
    setTokens([undefined]);
  }, dependencies);
  const token = tokens[page - 1];
  const polled = usePoll(() => ask(token), [...dependencies, token], every);
  const next = polled.value?.next;
  useEffect(() => {
    if (next !== undefined && tokens.length === page) setTokens([...tokens, next]);
  }, [next]);
  return { ...polled, page, known: tokens.length, open: next !== undefined && tokens.length <= page, turn: setPage };
}
