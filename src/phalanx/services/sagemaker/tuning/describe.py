"""DescribeHyperParameterTuningJob, and the summaries of training jobs that it shares with the list of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from phalanx.jobs import metric_definitions
from phalanx.jobs.tuning import completion
from phalanx.jobs.tuning.settings import objective_of, training_job_definitions
from phalanx.services.sagemaker import tags
from phalanx.services.sagemaker.tuning.children import resource_config
from phalanx.services.times import moment
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import TuningChild, TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

METRIC_DEFINITIONS = 40
"""Most metric definitions of an AlgorithmSpecification (service model)."""
TRAINING = (
    TrainingJob.name,
    TrainingJob.arn,
    TrainingJob.status,
    TrainingJob.created,
    TrainingJob.training_started,
    TrainingJob.training_ended,
    TrainingJob.failure_reason,
)
"""What a summary says of a training job."""


def find(session: Session, name: str) -> TuningJob:
    """The tuning job of that name. Raises ResourceNotFound."""
    job = session.get(TuningJob, name)
    if job is None:
        raise AwsError("ResourceNotFound", f"Amazon SageMaker can't find a tuning job called {name}. Type another name.")
    return job


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of a tuning job. Members whose value is not known (yet) are None."""
    with database.read() as session:
        return described(session, find(session, members["HyperParameterTuningJobName"]))


def described(session: Session, job: TuningJob) -> Members:
    """A tuning job in the model's shape."""
    children = session.scalars(select(TuningChild).where(TuningChild.tuning == job.name)).all()
    minimize = _objective(job, 0)["Type"] == "Minimize"
    succeeded = sorted((each for each in children if each.objective is not None), key=lambda each: each.settled or 0)
    progress = completion.progress([each.objective for each in succeeded if each.objective is not None], minimize)
    best = _best(session, job, succeeded, minimize)
    return {
        **job.request,
        **_definitions(job),
        "HyperParameterTuningJobName": job.name,
        "HyperParameterTuningJobArn": job.arn,
        "HyperParameterTuningJobStatus": job.status,
        "CreationTime": moment(job.created),
        "LastModifiedTime": moment(job.modified),
        **counters(children),
        "TuningJobCompletionDetails": {
            "NumberOfTrainingJobsObjectiveNotImproving": progress.not_improving,
            "ConvergenceDetectedTime": moment(job.converged),
        },
        "ConsumedResources": {"RuntimeInSeconds": ((job.ended or now_ms()) - job.created) // 1000},
        "HyperParameterTuningEndTime": moment(job.ended),
        "BestTrainingJob": best,
        "OverallBestTrainingJob": _overall(session, job, best, minimize),
        "FailureReason": job.failure_reason or None,
    }


def _definitions(job: TuningJob) -> Members:
    """The definitions with what SDK v2 attaches by, although it does not send it: ResourceConfig (it sends the other member),
    and the metric definitions of built-in algorithms, that of the objective first."""
    given = []
    for number, each in enumerate(training_job_definitions(job.request)):
        specification, objective = each["AlgorithmSpecification"], _objective(job, number)["MetricName"]
        metrics = sorted(metric_definitions.of(specification), key=lambda metric: metric["Name"] != objective)
        given.append(
            {
                **each,
                "AlgorithmSpecification": {**specification, "MetricDefinitions": metrics[:METRIC_DEFINITIONS]},
                "ResourceConfig": resource_config(each),
            }
        )
    return {"TrainingJobDefinitions": given} if "TrainingJobDefinitions" in job.request else {"TrainingJobDefinition": given[0]}


def records(session: Session, jobs: Sequence[TuningJob]) -> Iterator[Members]:
    """Tuning jobs in the model's shape HyperParameterTuningJobSearchEntity."""
    tagged = tags.of(session, [job.arn for job in jobs])
    for job in jobs:
        found = described(session, job)
        found.pop("Autotune", None)
        yield {**found, "Tags": tagged.get(job.arn, [])}


def counters(children: Sequence[Any]) -> Members:
    """TrainingJobStatusCounters and ObjectiveStatusCounters of children (rows with `counted` and `objective_status`)."""
    statuses = Counter(each.counted for each in children)
    objectives = Counter(each.objective_status for each in children)
    return {
        "TrainingJobStatusCounters": {
            name: statuses[name] for name in ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
        },
        "ObjectiveStatusCounters": {name: objectives[name] for name in ("Succeeded", "Pending", "Failed")},
    }


def summary(job: TuningJob, child: TuningChild, training: Row[*tuple[Any, ...]]) -> Members:
    """A child in the model's shape HyperParameterTrainingJobSummary; `training` holds the columns of TRAINING."""
    final = None if child.objective is None else _final(_objective(job, child.definition), child.objective)
    return {
        "TrainingJobDefinitionName": training_job_definitions(job.request)[child.definition].get("DefinitionName"),
        **_training(training),
        "TunedHyperParameters": child.parameters,
        "ObjectiveStatus": child.objective_status,
        "FinalHyperParameterTuningJobObjectiveMetric": final,
    }


def _best(session: Session, job: TuningJob, succeeded: Sequence[TuningChild], minimize: bool) -> Members | None:
    def rank(child: TuningChild) -> float:
        value = child.objective or 0.0
        return value if minimize else -value

    for child in sorted(succeeded, key=rank):
        training = session.execute(select(*TRAINING).where(TrainingJob.name == child.name)).first()
        if training is not None:
            return summary(job, child, training)
    return None


def _overall(session: Session, job: TuningJob, best: Members | None, minimize: bool) -> Members | None:
    """The best of this job's training jobs and its parents', where these are comparable."""
    if job.request.get("WarmStartConfig", {}).get("WarmStartType") != "IdenticalDataAndAlgorithm":
        return None
    theirs = job.warm.get("best")
    if theirs is None:
        return None if best is None else {**best, "TuningJobName": job.name}
    own = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] if best is not None else None
    training = session.execute(select(*TRAINING).where(TrainingJob.name == theirs["name"])).first()
    if best is not None and (training is None or (own < theirs["value"] if minimize else own > theirs["value"])):
        return {**best, "TuningJobName": job.name}
    if training is None:
        return None
    return {
        "TrainingJobDefinitionName": theirs["definition"],
        **_training(training),
        "TuningJobName": theirs["tuning"],
        "TunedHyperParameters": theirs["parameters"],
        "ObjectiveStatus": "Succeeded",
        "FinalHyperParameterTuningJobObjectiveMetric": _final(_objective(job, 0), theirs["value"]),
    }


def _training(training: Row[*tuple[Any, ...]]) -> Members:
    return {
        "TrainingJobName": training.name,
        "TrainingJobArn": training.arn,
        "TrainingJobStatus": training.status,
        "CreationTime": moment(training.created),
        "TrainingStartTime": moment(training.training_started),
        "TrainingEndTime": moment(training.training_ended),
        "FailureReason": training.failure_reason or None,
    }


def _objective(job: TuningJob, definition: int) -> Json:
    each = training_job_definitions(job.request)[definition]
    return objective_of(job.request["HyperParameterTuningJobConfig"], each) or {}


def _final(objective: Json, value: float) -> Members:
    return {"Type": objective["Type"], "MetricName": objective["MetricName"], "Value": value}
