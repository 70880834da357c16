/** The rules of security groups, and the blocks of the prefix lists that they name. */
import { DescribeSecurityGroupRulesCommand, GetManagedPrefixListEntriesCommand } from "@aws-sdk/client-ec2";
import type { Rule } from "../model/groupRules";
import type { Clients } from "./clients";

export interface GroupRules {
  rules: Rule[];
  prefixLists: Map<string, string[]>;
}

export async function groupRules(aws: Clients, groups: string[]): Promise<GroupRules> {
  const rules: Rule[] = [];
  let NextToken: string | undefined;
  do {
    const page = await aws.ec2.send(
      new DescribeSecurityGroupRulesCommand({ Filters: [{ Name: "group-id", Values: groups }], MaxResults: 1000, NextToken }),
    );
    rules.push(...(page.SecurityGroupRules ?? []));
    NextToken = page.NextToken || undefined;
  } while (NextToken !== undefined);
  const lists = [...new Set(rules.flatMap((rule) => rule.PrefixListId ?? []))];
  const entries = await Promise.all(
    lists.map(async (PrefixListId) => {
      const list = await aws.ec2.send(new GetManagedPrefixListEntriesCommand({ PrefixListId }));
      return [PrefixListId, (list.Entries ?? []).map((entry) => entry.Cidr ?? "")] as const;
    }),
  );
  return { rules, prefixLists: new Map(entries) };
}
