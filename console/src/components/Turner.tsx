import Pagination from "@cloudscape-design/components/pagination";
import type { Paged } from "../app/pages";

/** Turns the pages of a table that the service cuts. */
export function Turner({ pages }: { pages: Paged<unknown> }) {
  return (
    <Pagination currentPageIndex={pages.page} pagesCount={pages.known}
      onChange={({ detail }) => pages.turn(detail.currentPageIndex)} />
  );
}
