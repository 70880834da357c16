/** The instances of a job that was described. */
import type { ResourceConfig } from "@aws-sdk/client-sagemaker";

/** Its groups of instances of one type; one group unless the cluster has several types. */
export function instanceGroups(resources: Partial<ResourceConfig> | undefined): { type: string; count: number }[] {
  const groups = resources?.InstanceGroups ?? [];
  const all = groups.length > 0 ? groups : [{ InstanceType: resources?.InstanceType, InstanceCount: resources?.InstanceCount }];
  return all.map(({ InstanceType, InstanceCount }) => ({ type: InstanceType ?? "", count: InstanceCount ?? 1 }));
}

export function instanceCount(resources: Partial<ResourceConfig> | undefined): number {
  return instanceGroups(resources).reduce((sum, { count }) => sum + count, 0);
}

/** Sorts names by the numbers in them: algo-2 comes before algo-10. */
export const byNumber = new Intl.Collator("en", { numeric: true }).compare;
