import StatusIndicator, { type StatusIndicatorProps } from "@cloudscape-design/components/status-indicator";
import { type Key, useWords } from "../i18n";

const LOOKS: Record<string, [StatusIndicatorProps.Type, Key]> = {
  InProgress: ["in-progress", "status.InProgress"],
  Completed: ["success", "status.Completed"],
  Failed: ["error", "status.Failed"],
  Stopping: ["in-progress", "status.Stopping"],
  Stopped: ["stopped", "status.Stopped"],
  Deleting: ["in-progress", "status.Deleting"],
  DeleteFailed: ["error", "status.DeleteFailed"],
  Starting: ["in-progress", "status.Starting"],
  Pending: ["pending", "status.Pending"],
  Downloading: ["in-progress", "status.Downloading"],
  Training: ["in-progress", "status.Training"],
  Uploading: ["in-progress", "status.Uploading"],
  Restarting: ["in-progress", "status.Restarting"],
  Interrupted: ["warning", "status.Interrupted"],
  MaxRuntimeExceeded: ["warning", "status.MaxRuntimeExceeded"],
  MaxWaitTimeExceeded: ["warning", "status.MaxWaitTimeExceeded"],
};

/** A status of a job, as SageMaker names it. */
export function Status({ status, past }: { status: string | undefined; past?: boolean }) {
  const { t } = useWords();
  const look = LOOKS[status ?? ""];
  if (look === undefined) return <>{status ?? "–"}</>;
  const passed = past && (look[0] === "in-progress" || look[0] === "pending");
  return <StatusIndicator type={passed ? "success" : look[0]}>{t(look[1])}</StatusIndicator>;
}

export const isOver = (status: string | undefined) => status !== "InProgress" && status !== "Stopping" && status !== "Deleting";
