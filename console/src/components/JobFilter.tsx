import FormField from "@cloudscape-design/components/form-field";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import TextFilter from "@cloudscape-design/components/text-filter";
import { useEffect, useState } from "react";
import { useRemembered } from "../app/remembered";
import { type Key, useWords } from "../i18n";

const STATUSES = ["InProgress", "Completed", "Failed", "Stopping", "Stopped"] as const;
const TYPING_MILLISECONDS = 250;

/** What NameContains takes. */
const IN_A_NAME = /^[a-zA-Z0-9-]{0,63}$/;

export interface JobsWanted {
  typed: string;
  setTyped: (typed: string) => void;
  /** What names are to contain, once typing has paused, and the status that jobs are to have; empty for any. */
  contains: string;
  /** Whether what is typed can be in a name. Where it cannot, `contains` stays as it was. */
  possible: boolean;
  status: string;
  setStatus: (status: string) => void;
}

/** Which jobs of a list are wanted. */
export function useJobFilter(): JobsWanted {
  const [typed, setTyped] = useRemembered("typed", "");
  const [status, setStatus] = useRemembered("status", "");
  const possible = IN_A_NAME.test(typed.trim());
  const [contains, setContains] = useState(possible ? typed.trim() : "");
  useEffect(() => {
    if (!possible) return;
    const timer = setTimeout(() => setContains(typed.trim()), TYPING_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [typed]);
  return { typed, setTyped, contains, possible, status, setStatus };
}

/** Where it is said which jobs are wanted. */
export function JobFilter({ typed, setTyped, possible, status, setStatus }: JobsWanted) {
  const { t } = useWords();
  const label = (value: string) => t(value === "" ? "jobs.anyStatus" : (`status.${value}` as Key));
  return (
    <SpaceBetween direction="horizontal" size="xs">
      <FormField errorText={possible ? undefined : t("jobs.inAName")}>
        <TextFilter filteringText={typed} filteringPlaceholder={t("jobs.find")} filteringAriaLabel={t("jobs.find")}
          filteringClearAriaLabel={t("common.clear")} onChange={({ detail }) => setTyped(detail.filteringText)} />
      </FormField>
      <Select
        selectedOption={{ value: status, label: label(status) }}
        ariaLabel={t("jobs.status")}
        options={["", ...STATUSES].map((value) => ({ value, label: label(value) }))}
        onChange={({ detail }) => setStatus(detail.selectedOption.value!)}
      />
    </SpaceBetween>
  );
}
