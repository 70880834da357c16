"""A tuning job's request as the jobs room reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phalanx.algorithms import catalog
from phalanx.jobs.tuning.search import Prior, Search, Strategy
from phalanx.jobs.tuning.space import Space
from phalanx.store.base import Json

OBJECTIVE = "_tuning_objective_metric"
"""The hyperparameter that names the objective to the training program."""
MOST_TRAINING_JOBS = 750
"""Most training jobs of a tuning job, those of its warm start's parents included (SageMaker's quota)."""
EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""Static hyperparameters that Hyperband takes MaxResource from where it is not given."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A training job definition: `objective` is the metric's name, `name` None where there is only one definition."""

    name: str | None
    objective: str
    minimize: bool
    space: Space
    hyperband: tuple[int, int] | None
    """Least and most epochs of a child."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a tuning job was asked to do. Times in seconds."""

    strategy: Strategy
    definitions: tuple[Definition, ...]
    most: int
    parallel: int
    max_runtime: int | None
    early_stopping: bool
    target: float | None
    not_improving: int | None
    complete_on_convergence: bool

    @classmethod
    def of(cls, request: Json) -> Settings:
        """Read a request as the store keeps it. Raises SpaceError for ranges that cannot be searched."""
        config = request["HyperParameterTuningJobConfig"]
        definitions = tuple(_definition(config, each) for each in training_job_definitions(request))
        limits, criteria = config["ResourceLimits"], config.get("TuningJobCompletionCriteria", {})
        most = limits.get("MaxNumberOfTrainingJobs", MOST_TRAINING_JOBS)
        most = int(min(most, sum(each.space.size for each in definitions)))
        return cls(
            strategy=config["Strategy"],
            definitions=definitions,
            most=most,
            parallel=limits["MaxParallelTrainingJobs"],
            max_runtime=limits.get("MaxRuntimeInSeconds"),
            early_stopping=config.get("TrainingJobEarlyStoppingType", "Off") == "Auto",
            target=criteria.get("TargetObjectiveMetricValue"),
            not_improving=criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving"),
            complete_on_convergence=criteria.get("ConvergenceDetected", {}).get("CompleteOnConvergence") == "Enabled",
        )

    @property
    def minimize(self) -> bool:
        """Whether the least objective is the best: the same for all definitions."""
        return self.definitions[0].minimize

    def turn(self, taken: Sequence[int]) -> int | None:
        """Index of the definition that the next child belongs to; `taken` are those of all earlier ones. Definitions take
        turns; one of whose combinations none is left is passed over. None where there is nothing left to try.

        No strategy tries a combination twice, so that each child, however it ended, has used up one of its definition's.
        """
        counts = [taken.count(index) for index in range(len(self.definitions))]
        open_ = [index for index, each in enumerate(self.definitions) if counts[index] < each.space.size]
        return min(open_, key=lambda index: (counts[index], index), default=None)

    def search(self, definition: int, seed: int, prior: Prior) -> Search:
        """The search over the hyperparameters of a definition."""
        mine = self.definitions[definition]
        return Search(self.strategy, mine.space, mine.minimize, seed + definition, self.most // len(self.definitions), prior)


def training_job_definitions(request: Json) -> list[Json]:
    """TrainingJobDefinition, or TrainingJobDefinitions, as a list."""
    return request["TrainingJobDefinitions"] if "TrainingJobDefinitions" in request else [request["TrainingJobDefinition"]]


def ranges_of(config: Json, definition: Json) -> Json:
    """The ParameterRanges of a definition: its own, or those of the tuning job."""
    return definition.get("HyperParameterRanges") or config.get("ParameterRanges") or {}


def objective_of(config: Json, definition: Json) -> Json | None:
    """The objective of a definition: its own, or that of the tuning job."""
    return definition.get("TuningObjective") or config.get("HyperParameterTuningJobObjective")


def space_of(config: Json, definition: Json) -> Space:
    """The hyperparameters of a definition that are searched over. Raises SpaceError."""
    algorithm = catalog.find(definition["AlgorithmSpecification"].get("TrainingImage", ""))
    return Space.of(ranges_of(config, definition), algorithm.ranges if algorithm else {})


def hyperband_of(config: Json, definition: Json) -> tuple[int, int | None]:
    """Least and most epochs that Hyperband gives a child of a definition; the latter None where nothing says it."""
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    static = definition.get("StaticHyperParameters", {})
    inferred = next((static[name] for name in EPOCHS if static.get(name, "").isdecimal()), None)
    most = given.get("MaxResource", int(inferred) if inferred is not None else None)
    return given.get("MinResource", 1), most


def _definition(config: Json, definition: Json) -> Definition:
    objective = objective_of(config, definition) or {}
    least, most = hyperband_of(config, definition)
    return Definition(
        name=definition.get("DefinitionName"),
        objective=objective["MetricName"],
        minimize=objective["Type"] == "Minimize",
        space=space_of(config, definition),
        hyperband=(least, most) if config["Strategy"] == "Hyperband" and most is not None else None,
    )
