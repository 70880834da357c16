import BreadcrumbGroup from "@cloudscape-design/components/breadcrumb-group";
import ContentLayout from "@cloudscape-design/components/content-layout";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useEffect } from "react";

/** The window's title, as long as the page is shown. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Phalanx`;
  }, [title]);
}

/** A page: its title (also the window's), the way to it, and its content. */
export function Page(props: {
  title: string;
  trail?: [text: string, href: string][];
  description?: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  const { title, trail = [] } = props;
  useTitle(title);
  const items = [...trail.map(([text, href]) => ({ text, href })), { text: title, href: "#" }];
  return (
    <ContentLayout
      breadcrumbs={trail.length > 0 ? <BreadcrumbGroup items={items} /> : undefined}
      header={<Header variant="h1" description={props.description} actions={props.actions}>{title}</Header>}
    >
      <SpaceBetween size="l">{props.children}</SpaceBetween>
    </ContentLayout>
  );
}
