/** A job that was described, as the request that would create it again. */
import type { CreateTrainingJobRequest, DescribeTrainingJobResponse } from "@aws-sdk/client-sagemaker";
import { clean } from "./draft";

export function requestOf(job: DescribeTrainingJobResponse): CreateTrainingJobRequest {
  return clean({
    TrainingJobName: job.TrainingJobName,
    AlgorithmSpecification: job.AlgorithmSpecification,
    HyperParameters: job.HyperParameters,
    RoleArn: job.RoleArn,
    InputDataConfig: job.InputDataConfig,
    OutputDataConfig: { ...job.OutputDataConfig!, KmsKeyId: job.OutputDataConfig?.KmsKeyId || undefined },
    ResourceConfig: job.ResourceConfig,
    StoppingCondition: job.StoppingCondition,
    VpcConfig: job.VpcConfig,
    EnableManagedSpotTraining: job.EnableManagedSpotTraining,
    EnableNetworkIsolation: job.EnableNetworkIsolation,
    EnableInterContainerTrafficEncryption: job.EnableInterContainerTrafficEncryption,
    CheckpointConfig: job.CheckpointConfig,
    RetryStrategy: job.RetryStrategy,
    Environment: job.Environment,
  });
}
