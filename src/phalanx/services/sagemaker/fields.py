"""What Phalanx does with each member of CreateTrainingJob: the one table that the check and the documentation read.

A member that is not in the table is refused: a newer botocore must never make a request mean less than it says. Where the
client's is the newer one, the wire refuses what the service's own does not know (decision 39).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from phalanx.services.sagemaker.errors import validation
from phalanx.wire.service import Members


class Support(Enum):
    """How far a member is supported."""

    HONOURED = "honoured"
    NO_EFFECT = "accepted, changes nothing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """One member. `values` are those that are taken (for a refused member: those that mean "off"); None takes any."""

    path: str
    support: Support
    values: tuple[Any, ...] | None = None
    note: str = ""


def _honoured(path: str, *values: Any, note: str = "") -> Field:
    return Field(path, Support.HONOURED, values or None, note)


def _no_effect(path: str, *values: Any, note: str) -> Field:
    return Field(path, Support.NO_EFFECT, values or None, note)


def _refused(path: str, *off: Any, note: str = "") -> Field:
    return Field(path, Support.REFUSED, off, note)


_S3 = "InputDataConfig[].DataSource.S3DataSource"
_DEBUGGER = "SageMaker Debugger does not run here; its SDK sends this by default"
_PROFILER = "the profiler does not run here; the SDK sends this by default"

FIELDS: tuple[Field, ...] = (
    _honoured("TrainingJobName"),
    _honoured("HyperParameters"),
    _honoured("AlgorithmSpecification.TrainingImage", note="built-in, imported, built or fetched: docs/images.md"),
    _honoured("AlgorithmSpecification.TrainingInputMode", "File", "FastFile", "Pipe"),
    _honoured(
        "AlgorithmSpecification.MetricDefinitions",
        note="regular expressions of RE2, over the first 8192 characters of a line; the first 100 values of a line count",
    ),
    _honoured("AlgorithmSpecification.ContainerEntrypoint"),
    _honoured("AlgorithmSpecification.ContainerArguments"),
    _honoured(
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        note="metrics are kept by the second instead of by the minute; built-in algorithms' always are, unless it is false",
    ),
    _honoured("AlgorithmSpecification.AlgorithmName", note="name or ARN of an algorithm of the account"),
    _honoured("AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode", "Platform"),
    _refused(
        "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig",
        note="keys for registries are the host's: podman login",
    ),
    _honoured("RoleArn", note="any role of the account, until one is created or `--require-roles`"),
    _honoured("InputDataConfig[].ChannelName"),
    _honoured(
        f"{_S3}.S3DataType",
        "S3Prefix",
        "ManifestFile",
        "AugmentedManifestFile",
        note="FastFile mode takes S3Prefix alone, an augmented manifest Pipe mode alone",
    ),
    _honoured(f"{_S3}.S3Uri"),
    _honoured(f"{_S3}.S3DataDistributionType", "FullyReplicated", "ShardedByS3Key"),
    _honoured(f"{_S3}.AttributeNames"),
    _honoured(f"{_S3}.InstanceGroupNames"),
    _refused(f"{_S3}.ModelAccessConfig", note="there is no model hub"),
    _refused(f"{_S3}.HubAccessConfig", note="there is no model hub"),
    _refused("InputDataConfig[].DataSource.FileSystemDataSource", note="give an S3DataSource"),
    _refused("InputDataConfig[].DataSource.DatasetSource", note="give an S3DataSource"),
    _honoured("InputDataConfig[].ContentType"),
    _honoured("InputDataConfig[].CompressionType", "None", "Gzip"),
    _honoured("InputDataConfig[].RecordWrapperType", "None", "RecordIO", note="RecordIO in Pipe mode alone"),
    _honoured("InputDataConfig[].InputMode", "File", "FastFile", "Pipe"),
    _honoured("InputDataConfig[].ShuffleConfig.Seed", note="not in FastFile mode, where files have no order"),
    _honoured("OutputDataConfig.S3OutputPath"),
    _honoured("OutputDataConfig.CompressionType", "GZIP", "NONE"),
    _honoured("OutputDataConfig.KmsKeyId", note="objects are encrypted by the node that writes them: docs/keys.md"),
    _honoured("ResourceConfig.InstanceType"),
    _honoured("ResourceConfig.InstanceCount"),
    _honoured("ResourceConfig.VolumeSizeInGB", note="a file system of that size at /opt/ml; the host's disk is not reserved"),
    _honoured(
        "ResourceConfig.VolumeKmsKeyId",
        note="where the data directory lies on dm-crypt, under that disk's key; refused elsewhere",
    ),
    _honoured(
        "ResourceConfig.KeepAlivePeriodInSeconds",
        note="kept is the place in the host's memory: a matching job need not queue; a job that finds no other room ends the"
        " oldest pool",
    ),
    _honoured("ResourceConfig.InstanceGroups[].InstanceType"),
    _honoured("ResourceConfig.InstanceGroups[].InstanceCount"),
    _honoured("ResourceConfig.InstanceGroups[].InstanceGroupName"),
    _refused("ResourceConfig.TrainingPlanArn", note="there are no training plans"),
    _refused("ResourceConfig.InstancePlacementConfig.EnableMultipleJobs", False, note="there are no UltraServers"),
    _refused("ResourceConfig.InstancePlacementConfig.PlacementSpecifications", [], note="there are no UltraServers"),
    _refused("ResourceConfig.InstancePreferences", note="give InstanceType and InstanceCount"),
    _refused("ResourceConfig.SelectedInstanceType", note="it belongs to answers"),
    _refused("ResourceConfig.SelectedInstanceCount", note="it belongs to answers"),
    _honoured("VpcConfig.SecurityGroupIds"),
    _honoured("VpcConfig.Subnets"),
    _honoured("StoppingCondition.MaxRuntimeInSeconds"),
    _honoured("StoppingCondition.MaxWaitTimeInSeconds"),
    _honoured("StoppingCondition.MaxPendingTimeInSeconds"),
    _honoured("Tags"),
    _honoured("EnableNetworkIsolation"),
    _honoured("EnableInterContainerTrafficEncryption"),
    _honoured("EnableManagedSpotTraining", note="interrupted by `phalanx interrupt JOB` alone"),
    _honoured("CheckpointConfig.S3Uri", note="instances share the prefix: names must differ between them"),
    _honoured("CheckpointConfig.LocalPath", "/opt/ml/checkpoints", "/opt/ml/checkpoints/"),
    _no_effect("DebugHookConfig.S3OutputPath", note=_DEBUGGER),
    _no_effect("DebugHookConfig.LocalPath", note=_DEBUGGER),
    _refused("DebugHookConfig.HookParameters", {}, note="SageMaker Debugger does not run here"),
    _refused("DebugHookConfig.CollectionConfigurations", [], note="SageMaker Debugger does not run here"),
    _refused("DebugRuleConfigurations", [], note="SageMaker Debugger does not run here"),
    _refused("TensorBoardOutputConfig", note="write TensorBoard logs to /opt/ml/output/data or to the checkpoints"),
    _honoured("ExperimentConfig.ExperimentName", note="without TrialName the job gets a trial of its own"),
    _honoured("ExperimentConfig.TrialName"),
    _honoured("ExperimentConfig.TrialComponentDisplayName"),
    _honoured("ExperimentConfig.RunName", note="a run that follows no job yet follows this one"),
    _no_effect("ProfilerConfig.S3OutputPath", note=_PROFILER),
    _no_effect("ProfilerConfig.DisableProfiler", note=_PROFILER),
    _refused("ProfilerConfig.ProfilingIntervalInMilliseconds", note="the profiler does not run here"),
    _refused("ProfilerConfig.ProfilingParameters", {}, note="the profiler does not run here"),
    _refused("ProfilerRuleConfigurations", [], note="the profiler does not run here"),
    _honoured("Environment"),
    _honoured("RetryStrategy.MaximumRetryAttempts"),
    _refused("RemoteDebugConfig.EnableRemoteDebug", False, note="nobody may enter a training container"),
    _refused("InfraCheckConfig.EnableInfraCheck", False, note="there are no GPU health checks"),
    _refused("SessionChainingConfig.EnableSessionTagChaining", False, note="sessions of roles have no tags"),
    _refused("ServerlessJobConfig", note="the service itself trains no foundation models"),
    _refused("MlflowConfig", note="there is no MLflow server"),
    _refused("ModelPackageConfig", note="there is no model registry"),
)


def _parents(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path
        yield path.removesuffix("[]")


_BY_PATH = {field.path: field for field in FIELDS}
_GROUPS = {parent for field in FIELDS for parent in _parents(field.path)}


def refuse_unsupported(members: Members) -> None:
    """Raise ValidationException for the first member that asks for what this version does not do."""
    for name, value in members.items():
        _refuse(name, value)


def _refuse(path: str, value: Any) -> None:
    field = _BY_PATH.get(path)
    if field is None and path in _GROUPS:
        if isinstance(value, dict):
            for name, member in value.items():
                _refuse(f"{path}.{name}", member)
        else:
            for item in value:
                _refuse(f"{path}[]", item)
        return
    if field is None:
        raise validation(f"{path} is not supported by this version of Phalanx.")
    if field.values is None or value in field.values:
        return
    reason = f": {field.note}" if field.note else ""
    if not field.values:
        raise validation(f"{path} is not supported by this version of Phalanx{reason}. Leave it out.")
    taken = " or ".join(repr(each) for each in field.values)
    raise validation(f"{path} {value!r} is not supported by this version of Phalanx{reason}. Leave it out, or give {taken}.")
