/** What a copy of a job needs to know besides the job itself. */
import { DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import { DescribeAlgorithmCommand, ListTagsCommand, type Tag } from "@aws-sdk/client-sagemaker";
import { type Algorithm, algorithmResource } from "../model/algorithms";
import type { Pair } from "../model/draft";
import type { Clients } from "./clients";

export interface Surroundings {
  /** Id of the job's VPC; empty for a network of the job's own. */
  vpc: string;
  tags: Pair[];
  /** The algorithm resource that the job trains. */
  resource?: Algorithm;
}

export async function tagsOf(aws: Clients, ResourceArn: string | undefined): Promise<Tag[]> {
  return (await aws.sagemaker.send(new ListTagsCommand({ ResourceArn }))).Tags ?? [];
}

export async function surroundings(
  aws: Clients,
  job: { arn?: string; subnets?: string[]; algorithm?: string },
): Promise<Surroundings> {
  const [tags, found, algorithm] = await Promise.all([
    tagsOf(aws, job.arn),
    job.subnets === undefined ? undefined : aws.ec2.send(new DescribeSubnetsCommand({ SubnetIds: job.subnets })),
    job.algorithm === undefined ? undefined : aws.sagemaker.send(new DescribeAlgorithmCommand({ AlgorithmName: job.algorithm })),
  ]);
  return {
    vpc: found?.Subnets?.[0]?.VpcId ?? "",
    tags: tags.map(({ Key, Value }) => ({ key: Key ?? "", value: Value ?? "" })),
    resource: algorithm && algorithmResource(algorithm),
  };
}
