"""The training jobs of a tuning job, created and stopped as a client would."""

from __future__ import annotations

from phalanx.jobs import instance_types
from phalanx.jobs.control import JobControl
from phalanx.jobs.tuning.settings import training_job_definitions
from phalanx.jobs.tuning.tuner import NotNow, Refused
from phalanx.services.sagemaker import tags
from phalanx.services.sagemaker.create import EncryptionPolicy, create
from phalanx.services.sagemaker.stop import stop
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.tuning import TuningChild, TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_INHERITED = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "RetryStrategy",
    "Environment",
)
"""Members of a training job definition that are CreateTrainingJob's own."""


class TrainingJobs:
    """Implements Children (jobs.tuning.tuner)."""

    def __init__(self, database: Database, control: JobControl, policy: EncryptionPolicy | None) -> None:
        self._database = database
        self._control = control
        self._policy = policy

    def create(self, job: TuningJob, child: TuningChild) -> None:
        """See Children."""
        definition = training_job_definitions(job.request)[child.definition]
        members = training_job(definition, child.name, child.parameters)
        with self._database.read() as session:
            members["Tags"] = tags.of(session, [job.arn]).get(job.arn, [])
        _, _, _, region, account, _ = job.arn.split(":", 5)
        caller = Caller(account, region, "", job.caller, "", "")
        try:
            create(self._database, self._control, self._policy, caller, members, job.arn)
        except AwsError as error:
            # A host with what it needs may be away.
            away = error.code == "ResourceLimitExceeded" or error.status >= 500
            raise (NotNow if away else Refused)(f"{error.code}: {error.message}") from error

    def stop(self, name: str) -> None:
        """See Children."""
        try:
            stop(self._database, self._control, Caller("", "", "", "", "", ""), {"TrainingJobName": name})
        except AwsError:
            # It has ended meanwhile.
            return


def training_job(definition: Json, name: str, parameters: Json) -> Members:
    """CreateTrainingJob's members for the child `name` of a definition, with these values of what is searched over."""
    members: Members = {member: definition[member] for member in _INHERITED if member in definition}
    members["TrainingJobName"] = name
    members["HyperParameters"] = {**definition["StaticHyperParameters"], **parameters}
    resources = resource_config(definition)
    if resources is not None:
        members["ResourceConfig"] = resources
    if "CheckpointConfig" in definition:
        # A prefix of its own: the checkpoints of one child mean nothing to another.
        given = definition["CheckpointConfig"]
        members["CheckpointConfig"] = {**given, "S3Uri": f"{given['S3Uri'].rstrip('/')}/{name}"}
    return members


def resource_config(definition: Json) -> Json | None:
    """The ResourceConfig of a definition's children, the same for all of them; None where it has none."""
    if "ResourceConfig" in definition:
        return dict(definition["ResourceConfig"])
    # The version before kept no choice, and gave each child the first type without GPUs.
    given = definition.get("HyperParameterTuningResourceConfig")
    return None if given is None else choose(given, gpus=0)


def choose(given: Json, gpus: int) -> Json:
    """What a HyperParameterTuningResourceConfig comes to as ResourceConfig: of several types it is the first that a service
    with so many GPUs has."""
    rest = {name: value for name, value in given.items() if name not in ("AllocationStrategy", "InstanceConfigs")}
    configs = given.get("InstanceConfigs", [])
    # They are in the order of preference.
    usable = [
        each
        for each in configs
        if (known := instance_types.CATALOGUE.get(each["InstanceType"])) and known.gpus * each["InstanceCount"] <= gpus
    ]
    return {**rest, **(usable or configs or [{}])[0]}
