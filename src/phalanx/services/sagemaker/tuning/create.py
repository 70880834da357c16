"""CreateHyperParameterTuningJob: a tuning job is refused for a reason, or it is stored whole."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.jobs import metric_definitions
from phalanx.jobs.control import JobControl
from phalanx.jobs.tuning import warm
from phalanx.jobs.tuning.search import Search
from phalanx.jobs.tuning.settings import (
    MOST_TRAINING_JOBS,
    OBJECTIVE,
    Settings,
    hyperband_of,
    objective_of,
    ranges_of,
    space_of,
    training_job_definitions,
)
from phalanx.jobs.tuning.space import Categorical, Space, SpaceError
from phalanx.jobs.tuning.stopping import MAX_RESOURCE
from phalanx.jobs.tuning.strategy import propose
from phalanx.services.sagemaker import algorithms, tags
from phalanx.services.sagemaker.create import EncryptionPolicy, accepted, check_network
from phalanx.services.sagemaker.errors import missing, validation
from phalanx.services.sagemaker.tuning.children import choose, training_job
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database
from phalanx.store.tuning import TuningChild, TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

PARALLEL = 10
"""Most training jobs of a tuning job at a time (SageMaker's quota)."""
TUNABLE = 30
"""Most hyperparameters that one training job definition searches over (ParameterRanges in the API reference)."""
HYPERPARAMETERS = 100
"""Most hyperparameters of a training job, static, searched over and OBJECTIVE together."""
LARGEST_SEED = 2**31 - 1
RETRIES = 3
"""RetryStrategy.MaximumRetryAttempts that Autotune chooses."""


def create(
    database: Database, control: JobControl, policy: EncryptionPolicy | None, caller: Caller, members: Members
) -> Members:
    """Check a request against all that the service model does not say, store the tuning job, and wake the tuner."""
    name = members["HyperParameterTuningJobName"]
    arn = caller.arn_of("sagemaker", f"hyper-parameter-tuning-job/{name}")
    tags.check(members.get("Tags", []))
    request = _with_defaults(members)
    config, definitions = request["HyperParameterTuningJobConfig"], training_job_definitions(request)
    _check_config(config)
    spaces = [_space(config, each) for each in definitions]
    _check_strategy(config, definitions, spaces)
    for each, space in zip(definitions, spaces, strict=True):
        if "AlgorithmName" in each["AlgorithmSpecification"]:
            bounds = {parameter.name: parameter.ends for parameter in space.parameters}
            objective = objective_of(config, each) or {}
            algorithms.check_tuning(database, each["AlgorithmSpecification"]["AlgorithmName"], objective, bounds)
    check = partial(accepted, database, control, policy, caller, action="CreateHyperParameterTuningJob", resource=arn)
    gpus = control.gpus()
    children = [_check_child(check, name, config, each, space, gpus) for each, space in zip(definitions, spaces, strict=True)]
    seed = config.get("RandomSeed", secrets.randbelow(LARGEST_SEED))
    with database.write() as session:
        if session.scalar(select(TuningJob.name).where(func.lower(TuningJob.name) == name.lower())) is not None:
            raise AwsError(
                "ResourceInUse",
                f"A hyperparameter tuning job with the name, {name}, already exists. Choose a different name.",
            )
        for child in children:
            check_network(session, child)
        parents = _parents(session, request, definitions)
        now = now_ms()
        session.add(
            TuningJob(
                name=name,
                arn=arn,
                request=request,
                caller=caller.arn,
                seed=seed,
                warm=warm.observe(session, parents, Settings.of(request).minimize),
                status="InProgress",
                created=now,
                modified=now,
            )
        )
        tags.attach(session, arn, members.get("Tags", []))
    control.wake()
    return {"HyperParameterTuningJobArn": arn}


def _with_defaults(members: Members) -> Json:
    """The request as it is described later, without name and tags: with SageMaker's defaults, and what Autotune chooses."""
    given = [name for name in ("TrainingJobDefinition", "TrainingJobDefinitions") if name in members]
    if len(given) != 1:
        raise validation("You must specify either TrainingJobDefinition or TrainingJobDefinitions, and not both.")
    config = dict(members["HyperParameterTuningJobConfig"])
    autotune = "Autotune" in members
    hyperband = config["Strategy"] == "Hyperband"
    config.setdefault("TrainingJobEarlyStoppingType", "Auto" if autotune and not hyperband else "Off")
    if autotune:
        criteria = {
            "ConvergenceDetected": {"CompleteOnConvergence": "Enabled"},
            **config.get("TuningJobCompletionCriteria", {}),
        }
        config["TuningJobCompletionCriteria"] = criteria
    request: Json = {"HyperParameterTuningJobConfig": config}
    if given == ["TrainingJobDefinition"]:
        request["TrainingJobDefinition"] = _definition(config, members["TrainingJobDefinition"], autotune)
        _check_single(config, members["TrainingJobDefinition"])
    else:
        request["TrainingJobDefinitions"] = [_definition(config, each, autotune) for each in members["TrainingJobDefinitions"]]
        _check_several(config, members["TrainingJobDefinitions"])
    for name in ("WarmStartConfig", "Autotune"):
        if name in members:
            request[name] = members[name]
    if not autotune and any(ranges_of(config, each).get("AutoParameters") for each in training_job_definitions(request)):
        raise validation("AutoParameters need Autotune: set Autotune.Mode to Enabled, or give ranges.")
    return request


def _definition(config: Json, given: Json, autotune: bool) -> Json:
    objective = objective_of(config, given)
    if objective is None:
        raise missing("hyperParameterTuningJobConfig.hyperParameterTuningJobObjective")
    return {
        **given,
        "StaticHyperParameters": {**given.get("StaticHyperParameters", {}), OBJECTIVE: objective["MetricName"]},
        "EnableNetworkIsolation": given.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": given.get("EnableInterContainerTrafficEncryption", False),
        "EnableManagedSpotTraining": given.get("EnableManagedSpotTraining", False),
        **({"RetryStrategy": {"MaximumRetryAttempts": RETRIES}} if autotune and "RetryStrategy" not in given else {}),
    }


def _check_single(config: Json, definition: Json) -> None:
    for general, own in (("HyperParameterTuningJobObjective", "TuningObjective"), ("ParameterRanges", "HyperParameterRanges")):
        if general in config and own in definition:
            raise validation(
                f"Give either HyperParameterTuningJobConfig.{general} or TrainingJobDefinition.{own}, and not both."
            )


def _check_several(config: Json, definitions: Sequence[Json]) -> None:
    for general in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if general in config:
            raise validation(
                f"HyperParameterTuningJobConfig.{general} cannot be given together with TrainingJobDefinitions: "
                "give each definition its own."
            )
    for number, each in enumerate(definitions, 1):
        for name in ("DefinitionName", "TuningObjective", "HyperParameterRanges"):
            if name not in each:
                raise missing(f"trainingJobDefinitions.{number}.member.{name[0].lower()}{name[1:]}")
    if len({each["DefinitionName"] for each in definitions}) < len(definitions):
        raise validation("The DefinitionNames of TrainingJobDefinitions must be unique.")
    if len({each["TuningObjective"]["Type"] for each in definitions}) > 1:
        raise validation("The TuningObjectives of all TrainingJobDefinitions must have the same Type.")


def _check_config(config: Json) -> None:
    limits = config["ResourceLimits"]
    if limits["MaxParallelTrainingJobs"] > PARALLEL:
        raise _limit("parallel training jobs per hyperparameter tuning job", PARALLEL, limits["MaxParallelTrainingJobs"])
    if limits.get("MaxNumberOfTrainingJobs", 1) > MOST_TRAINING_JOBS:
        raise _limit("training jobs per hyperparameter tuning job", MOST_TRAINING_JOBS, limits["MaxNumberOfTrainingJobs"])
    target = config.get("TuningJobCompletionCriteria", {}).get("TargetObjectiveMetricValue")
    if target is not None and not math.isfinite(target):
        raise validation("TargetObjectiveMetricValue must be a finite number.")
    if config.get("RandomSeed", 0) > LARGEST_SEED:
        raise validation(f"RandomSeed must be less than or equal to {LARGEST_SEED}.")


def _space(config: Json, definition: Json) -> Space:
    try:
        space = space_of(config, definition)
    except SpaceError as error:
        raise validation(str(error)) from error
    tunable = [each.name for each in space.parameters]
    if not tunable:
        raise validation("At least one hyperparameter range is required. Provide a range in ParameterRanges.")
    if len(tunable) > TUNABLE:
        raise _limit("hyperparameters that can be searched per hyperparameter tuning job", TUNABLE, len(tunable))
    static = definition["StaticHyperParameters"]
    both = next((name for name in tunable if name in static), None)
    if both is not None:
        raise validation(f"The hyperparameter {both} cannot be both static and tunable. Remove it from one of them.")
    if len(tunable) + len(static) > HYPERPARAMETERS:
        raise validation(
            f"The number of static and tunable hyperparameters, {OBJECTIVE} included, is {len(tunable) + len(static)}. "
            f"It must not be over {HYPERPARAMETERS}."
        )
    return space


def _check_strategy(config: Json, definitions: Sequence[Json], spaces: Sequence[Space]) -> None:
    strategy = config["Strategy"]
    most = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    size = sum(each.size for each in spaces)
    if strategy != "Hyperband" and "StrategyConfig" in config:
        raise validation("StrategyConfig is supported only with the strategy Hyperband. Leave it out.")
    if strategy == "Grid":
        if any(not isinstance(each, Categorical) for space in spaces for each in space.parameters):
            raise validation("The strategy Grid supports only categorical hyperparameter ranges.")
        if most is not None and most != size:
            raise validation(
                f"With the strategy Grid, MaxNumberOfTrainingJobs must be the number of all combinations, {int(size)}. "
                "Leave it out, or give that number."
            )
        if size > MOST_TRAINING_JOBS:
            raise _limit("training jobs per hyperparameter tuning job", MOST_TRAINING_JOBS, int(size))
    elif most is not None and size < most:
        raise validation(
            "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter combinations for "
            f"the provided ranges [{size}] must be equal or greater than the value of MaxNumberOfJobs, [{most}]. "
            "Provide additional ranges."
        )
    if strategy == "Hyperband":
        if config["TrainingJobEarlyStoppingType"] != "Off":
            raise validation("TrainingJobEarlyStoppingType must be Off with the strategy Hyperband: it stops jobs itself.")
        for definition in definitions:
            least, greatest = hyperband_of(config, definition)
            if greatest is None:
                raise validation(
                    "MaxResource is required with the strategy Hyperband: give HyperbandStrategyConfig.MaxResource, "
                    "or a static hyperparameter epochs, numepochs, n-epochs, n_epochs or num_epochs."
                )
            if greatest > MAX_RESOURCE:
                raise validation(f"MaxResource {greatest} must be less than or equal to {MAX_RESOURCE}.")
            if least >= greatest:
                raise validation(f"MinResource {least} must be less than MaxResource {greatest}.")


def _check_child(check: Callable[[Members], Json], name: str, config: Json, definition: Json, space: Space, gpus: int) -> Json:
    """Check what any child of a definition will be asked for; what is chosen for all of them, and what an account's policy
    adds, goes into the definition."""
    given = [each for each in ("ResourceConfig", "HyperParameterTuningResourceConfig") if each in definition]
    if len(given) > 1:
        raise validation("You must specify either ResourceConfig or HyperParameterTuningResourceConfig, and not both.")
    resources = definition.get("HyperParameterTuningResourceConfig", {})
    if "InstanceConfigs" in resources:
        for other in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
            if other in resources:
                raise validation(f"{other} cannot be given together with InstanceConfigs. Leave one of them out.")
    elif "AllocationStrategy" in resources:
        raise validation("AllocationStrategy needs InstanceConfigs.")
    if "HyperParameterTuningResourceConfig" in definition:
        definition["ResourceConfig"] = choose(resources, gpus)
    parameters = propose(Search("Random", space, True, 0, 1), 0, [])
    sample = training_job(definition, f"{name}-001-00000000", parameters)
    child = check(sample)
    objective = objective_of(config, definition) or {}
    if objective["MetricName"] not in {each["Name"] for each in metric_definitions.of(child["AlgorithmSpecification"])}:
        raise validation(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric definitions."
        )
    if child["EnableInterContainerTrafficEncryption"]:
        definition["EnableInterContainerTrafficEncryption"] = True
    for member in ("InputDataConfig", "OutputDataConfig"):
        if member in child:
            definition[member] = child[member]
    return child


def _parents(session: Session, request: Json, definitions: Sequence[Json]) -> list[TuningJob]:
    """The parents of a warm start, once they can be that."""
    found: list[TuningJob] = []
    if "WarmStartConfig" not in request:
        return found
    config = request["HyperParameterTuningJobConfig"]
    launched = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 0)
    for each in request["WarmStartConfig"]["ParentHyperParameterTuningJobs"]:
        if "HyperParameterTuningJobName" not in each:
            raise missing("warmStartConfig.parentHyperParameterTuningJobs.1.member.hyperParameterTuningJobName")
        name = each["HyperParameterTuningJobName"]
        parent = session.get(TuningJob, name)
        if parent is None:
            raise validation(f"The parent hyperparameter tuning job {name} does not exist.")
        if parent in found:
            raise validation(f"The parent hyperparameter tuning job {name} is given more than once.")
        if parent.status not in ("Completed", "Failed", "Stopped"):
            raise validation(
                f"The parent hyperparameter tuning job {name} is in status {parent.status}. "
                "It must be Completed, Stopped or Failed."
            )
        _check_parent(config, definitions, parent)
        launched += session.scalar(select(func.count()).where(TuningChild.tuning == name)) or 0
        found.append(parent)
    if launched > MOST_TRAINING_JOBS:
        raise _limit("training jobs per hyperparameter tuning job, parents included", MOST_TRAINING_JOBS, launched)
    return found


def _check_parent(config: Json, definitions: Sequence[Json], parent: TuningJob) -> None:
    theirs = {each.get("DefinitionName"): each for each in training_job_definitions(parent.request)}
    for definition in definitions:
        other = theirs.get(definition.get("DefinitionName"))
        if other is None:
            raise validation(f"The parent {parent.name} has no training job definition {definition.get('DefinitionName')}.")
        their_config = parent.request["HyperParameterTuningJobConfig"]
        if objective_of(config, definition) != objective_of(their_config, other):
            raise validation(
                f"The objective metric of a warm start tuning job must be the same as that of its parent {parent.name}."
            )
        mine, their = space_of(config, definition), space_of(their_config, other)
        if _names(mine, definition) != _names(their, other):
            raise validation(
                "The set of tunable plus static HyperParameter names is not the same across current and parent tuning jobs. "
                "Please ensure this set is constant when warm starting. Note that previously static HyperParameters can be "
                "tuned in warm start jobs and vice versa."
            )
        kinds = {each.name: type(each) for each in their.parameters}
        changed = next((each.name for each in mine.parameters if kinds.get(each.name, type(each)) is not type(each)), None)
        if changed is not None:
            raise validation(f"The type of the hyperparameter {changed} is not the same as in the parent {parent.name}.")


def _names(space: Space, definition: Json) -> set[str]:
    return {each.name for each in space.parameters} | set(definition["StaticHyperParameters"])


def _limit(quota: str, limit: int, requested: int) -> AwsError:
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit 'Number of {quota}' is {limit}, and {requested} were requested.",
    )
