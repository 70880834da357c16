"""Warm start: what parent tuning jobs have found, as a tuning job remembers it from its creation on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs.tuning.search import Evaluation, Prior
from phalanx.jobs.tuning.settings import Definition, training_job_definitions
from phalanx.store.base import Json
from phalanx.store.tuning import TuningChild, TuningJob


def observe(session: Session, parents: Sequence[TuningJob], minimize: bool) -> Json:
    """What `parents` have found, as TuningJob.warm keeps it: parents may be deleted later. Their own parents' are not in it."""
    observations: list[list[list[object]]] = []
    best: Json | None = None
    for parent in parents:
        definitions = training_job_definitions(parent.request)
        mine: list[list[object]] = []
        for child in _succeeded(session, parent):
            definition = definitions[child.definition]
            values = {**definition.get("StaticHyperParameters", {}), **child.parameters}
            mine.append([definition.get("DefinitionName"), values, child.objective])
            if best is None or _better(child.objective, best["value"], minimize):
                best = {
                    "name": child.name,
                    "tuning": parent.name,
                    "definition": definition.get("DefinitionName"),
                    "parameters": child.parameters,
                    "value": child.objective,
                }
        observations.append(mine)
    return {"observations": observations, "best": best}


def prior(job: TuningJob, definition: Definition) -> Prior:
    """What a job's parents have found that concerns one of its definitions."""
    kind = job.request.get("WarmStartConfig", {}).get("WarmStartType", "IdenticalDataAndAlgorithm")
    return Prior(
        parents=tuple(
            tuple(
                Evaluation({each.name: values.get(each.name, "") for each in definition.space.parameters}, value)
                for name, values, value in parent
                if name == definition.name
            )
            for parent in job.warm.get("observations", [])
        ),
        comparable=kind == "IdenticalDataAndAlgorithm",
    )


def _succeeded(session: Session, parent: TuningJob) -> list[TuningChild]:
    query = select(TuningChild).where(TuningChild.tuning == parent.name, TuningChild.objective_status == "Succeeded")
    return list(session.scalars(query.order_by(TuningChild.settled)))


def _better(value: float | None, other: float, minimize: bool) -> bool:
    return value is not None and (value < other if minimize else value > other)
