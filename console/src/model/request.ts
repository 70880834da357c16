/** A job that was described, as the request that would create it again. Its tags are no part of the description. */
import type {
  CreateHyperParameterTuningJobRequest,
  CreateTrainingJobRequest,
  DescribeHyperParameterTuningJobResponse,
  DescribeTrainingJobResponse,
  HyperParameterTrainingJobDefinition,
  Tag,
} from "@aws-sdk/client-sagemaker";
import { clean } from "./draft";

/** The hyperparameter that tells the training program what it is tuned for. */
const OBJECTIVE = "_tuning_objective_metric";

export function requestOf(job: DescribeTrainingJobResponse, tags: Tag[]): CreateTrainingJobRequest {
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
    ExperimentConfig: job.ExperimentConfig,
    Tags: tags.length === 0 ? undefined : tags,
  });
}

export function tuningRequestOf(
  job: DescribeHyperParameterTuningJobResponse,
  tags: Tag[],
): CreateHyperParameterTuningJobRequest {
  return clean({
    HyperParameterTuningJobName: job.HyperParameterTuningJobName,
    HyperParameterTuningJobConfig: job.HyperParameterTuningJobConfig,
    TrainingJobDefinition: job.TrainingJobDefinition && withoutObjective(job.TrainingJobDefinition),
    TrainingJobDefinitions: job.TrainingJobDefinitions?.map(withoutObjective),
    WarmStartConfig: job.WarmStartConfig,
    Autotune: job.Autotune,
    Tags: tags.length === 0 ? undefined : tags,
  });
}

/** A definition without what the service says to the training program in it. */
function withoutObjective(definition: HyperParameterTrainingJobDefinition): HyperParameterTrainingJobDefinition {
  const { [OBJECTIVE]: _, ...fixed } = definition.StaticHyperParameters ?? {};
  return { ...definition, StaticHyperParameters: Object.keys(fixed).length > 0 ? fixed : undefined };
}
