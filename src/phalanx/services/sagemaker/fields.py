"""What Phalanx does with each member of CreateTrainingJob: the one table that the check and the documentation read.

A member that is not in the table is refused: a newer botocore must never make a request mean less than it says.
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
    _honoured("AlgorithmSpecification.TrainingImage"),
    _honoured("AlgorithmSpecification.TrainingInputMode", "File"),
    _honoured("AlgorithmSpecification.MetricDefinitions"),
    _honoured("AlgorithmSpecification.ContainerEntrypoint"),
    _honoured("AlgorithmSpecification.ContainerArguments"),
    _no_effect(
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
        note="final metrics are kept, time series are not; the SDK sends this by default",
    ),
    _refused("AlgorithmSpecification.AlgorithmName", note="give TrainingImage"),
    _honoured("AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode", "Platform"),
    _refused("AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig"),
    _honoured("RoleArn", note="any role of the account"),
    _honoured("InputDataConfig[].ChannelName"),
    _honoured(f"{_S3}.S3DataType", "S3Prefix"),
    _honoured(f"{_S3}.S3Uri"),
    _honoured(f"{_S3}.S3DataDistributionType", "FullyReplicated", "ShardedByS3Key"),
    _refused(f"{_S3}.AttributeNames", []),
    _refused(f"{_S3}.InstanceGroupNames", []),
    _refused(f"{_S3}.ModelAccessConfig"),
    _refused(f"{_S3}.HubAccessConfig"),
    _refused("InputDataConfig[].DataSource.FileSystemDataSource"),
    _refused("InputDataConfig[].DataSource.DatasetSource"),
    _honoured("InputDataConfig[].ContentType"),
    _honoured("InputDataConfig[].CompressionType", "None", "Gzip"),
    _honoured("InputDataConfig[].RecordWrapperType", "None"),
    _honoured("InputDataConfig[].InputMode", "File"),
    _refused("InputDataConfig[].ShuffleConfig"),
    _honoured("OutputDataConfig.S3OutputPath"),
    _honoured("OutputDataConfig.CompressionType", "GZIP", "NONE"),
    _refused("OutputDataConfig.KmsKeyId", ""),
    _honoured("ResourceConfig.InstanceType"),
    _honoured("ResourceConfig.InstanceCount"),
    _no_effect("ResourceConfig.VolumeSizeInGB", note="instances share the host's disk"),
    _refused("ResourceConfig.VolumeKmsKeyId", ""),
    _refused("ResourceConfig.KeepAlivePeriodInSeconds", 0),
    _refused("ResourceConfig.InstanceGroups", [], note="give InstanceType and InstanceCount"),
    _refused("ResourceConfig.TrainingPlanArn"),
    _refused("ResourceConfig.InstancePlacementConfig.EnableMultipleJobs", False),
    _refused("ResourceConfig.InstancePlacementConfig.PlacementSpecifications", []),
    _refused("ResourceConfig.InstancePreferences", note="give InstanceType and InstanceCount"),
    _refused("ResourceConfig.SelectedInstanceType"),
    _refused("ResourceConfig.SelectedInstanceCount"),
    _honoured("VpcConfig.SecurityGroupIds"),
    _honoured("VpcConfig.Subnets"),
    _honoured("StoppingCondition.MaxRuntimeInSeconds"),
    _refused("StoppingCondition.MaxWaitTimeInSeconds"),
    _refused("StoppingCondition.MaxPendingTimeInSeconds", note="a job waits for room without limit"),
    _honoured("Tags"),
    _honoured("EnableNetworkIsolation"),
    _honoured("EnableInterContainerTrafficEncryption"),
    _refused("EnableManagedSpotTraining", False),
    _refused("CheckpointConfig"),
    _no_effect("DebugHookConfig.S3OutputPath", note=_DEBUGGER),
    _no_effect("DebugHookConfig.LocalPath", note=_DEBUGGER),
    _refused("DebugHookConfig.HookParameters", {}),
    _refused("DebugHookConfig.CollectionConfigurations", []),
    _refused("DebugRuleConfigurations", []),
    _refused("TensorBoardOutputConfig"),
    _refused("ExperimentConfig", {}),
    _no_effect("ProfilerConfig.S3OutputPath", note=_PROFILER),
    _no_effect("ProfilerConfig.DisableProfiler", note=_PROFILER),
    _refused("ProfilerConfig.ProfilingIntervalInMilliseconds"),
    _refused("ProfilerConfig.ProfilingParameters", {}),
    _refused("ProfilerRuleConfigurations", []),
    _honoured("Environment"),
    _refused("RetryStrategy"),
    _refused("RemoteDebugConfig.EnableRemoteDebug", False),
    _refused("InfraCheckConfig.EnableInfraCheck", False),
    _refused("SessionChainingConfig.EnableSessionTagChaining", False),
    _refused("ServerlessJobConfig"),
    _refused("MlflowConfig"),
    _refused("ModelPackageConfig"),
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
