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

/** In place of the VPC of subnets that cannot be looked up: the copy has them still, until others are chosen, and no other network. */
const NOT_KNOWN = "–";

/** What is gone by now, or is not for the user to see, does not keep the rest from being copied; `failed` is told of it. */
export async function surroundings(
  aws: Clients,
  job: { arn?: string; subnets?: string[]; algorithm?: string },
  failed: (error: unknown) => void,
): Promise<Surroundings> {
  const known = <Answer>(answer: Promise<Answer>): Promise<Answer | undefined> =>
    answer.catch((error: unknown) => {
      failed(error);
      return undefined;
    });
  const { subnets, algorithm: AlgorithmName } = job;
  const [tags = [], found, algorithm] = await Promise.all([
    known(tagsOf(aws, job.arn)),
    subnets && known(aws.ec2.send(new DescribeSubnetsCommand({ SubnetIds: subnets }))),
    AlgorithmName === undefined ? undefined : known(aws.sagemaker.send(new DescribeAlgorithmCommand({ AlgorithmName }))),
  ]);
  return {
    vpc: subnets === undefined ? "" : (found?.Subnets?.[0]?.VpcId ?? NOT_KNOWN),
    tags: tags.map(({ Key, Value }) => ({ key: Key ?? "", value: Value ?? "" })),
    resource: algorithm && algorithmResource(algorithm),
  };
}
