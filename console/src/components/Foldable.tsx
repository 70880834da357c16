import ExpandableSection, { type ExpandableSectionProps } from "@cloudscape-design/components/expandable-section";
import { createContext, useContext, useEffect, useState } from "react";

/** How often it was tried to send the form. */
export const Tries = createContext(0);

/** A part of a form that may be folded away: it opens when the form is sent and refused for a fault that is in it. */
export function Foldable(props: Omit<ExpandableSectionProps, "expanded" | "onChange"> & { faulty: boolean }) {
  const { faulty, defaultExpanded = false, ...rest } = props;
  const tries = useContext(Tries);
  const [open, setOpen] = useState(defaultExpanded);
  useEffect(() => {
    if (faulty) setOpen(true);
  }, [tries]);
  return <ExpandableSection {...rest} expanded={open} onChange={({ detail }) => setOpen(detail.expanded)} />;
}
