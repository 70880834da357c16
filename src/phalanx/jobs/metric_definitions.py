"""The metric definitions of training jobs: a user's own, and those of built-in algorithms."""

from __future__ import annotations

from phalanx.algorithms import catalog
from phalanx.data import metrics
from phalanx.store.base import Json


def of(specification: Json) -> list[Json]:
    """The MetricDefinitions of training jobs of an AlgorithmSpecification: those given, and the algorithm's own, of which one
    that is given takes the place: a value counts once."""
    given = specification.get("MetricDefinitions", [])
    algorithm = catalog.find(specification.get("TrainingImage", ""))
    names = {each["Name"] for each in given}
    own = [{"Name": name, "Regex": regex} for name, regex in (algorithm.metrics if algorithm else ()) if name not in names]
    return [*given, *own]


def compiled(definitions: list[Json]) -> metrics.Definitions:
    """MetricDefinitions, ready to scan logs for. Raises data.metrics.MetricError."""
    return metrics.Definitions((each["Name"], each["Regex"]) for each in definitions)


def fault(definitions: list[Json]) -> str | None:
    """Why MetricDefinitions cannot be used; None where they can."""
    try:
        compiled(definitions)
    except metrics.MetricError as error:
        return str(error)
    return None
