"""XGBoost on one or more hosts, as SageMaker's built-in algorithm: `train.py train`, with the container contract alone."""

from __future__ import annotations

import json
import math
import os
import re
import time
import warnings
from pathlib import Path
from typing import Any

import lean  # noqa: F401
import program

# isort: split
import hyperparameters
import metrics
import numpy as np
import records
import xgboost
from cluster import Cluster, own_address
from contract import CHECKPOINTS, MODEL, OUTPUT, Resources, UserError, channels, needed
from contract import hyperparameters as asked_for
from hyperparameters import Hyperparameters
from records import Records
from xgboost import collective
from xgboost.tracker import RabitTracker

TRACKER_PORT = 9099
_COLLECTIVE_SECONDS = 7 * 24 * 3600
"""XGBoost's patience with a slow peer. A dead one is noticed by the cluster."""
_FEW_CELLS = 200_000
"""Rows times features from which two threads train sooner than one. Below, they wait for each other at every step of a tree."""
_CHECKPOINT = "xgboost-checkpoint"
_CHECKPOINTS_KEPT = 5
_WATCHED = "watched_metric"
"""Models' attribute beside XGBoost's own best_score and best_iteration: the metric that these are of, as it was asked for."""
_LOSSES = (
    *("gamma-deviance", "gamma-nloglik", "logloss", "mae", "mlogloss", "mphe", "mse", "poisson-nloglik", "quantile", "rmse"),
    "tweedie-nloglik",
)
"""Metrics that are a number for every model; others need not be, such as the AUC of a single class."""
_IMPORTANCE = ("weight", "gain", "cover", "total_gain", "total_cover")


def main() -> None:
    """Train; ends the process."""
    if "sagemaker_program" in asked_for():
        # Its packages are of no use to the algorithm.
        import script

        script.main()
    # XGBoost warns of what is meant: a model file without an extension, parameters of another booster.
    warnings.filterwarnings("ignore", category=UserWarning, module="xgboost")
    program.run(hyperparameters.parse, _train, _words)


def _train(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> None:
    train, validation = _load(parameters, here, cluster)
    start = _latest_checkpoint(cluster)
    if cluster is None:
        _finish(_boost(parameters, train, validation, start, leader=True), parameters)
        return
    # Asked of all, since some may have no rows: a host that evaluates what others do not waits for them for ever.
    if not any(cluster.gather(any(each is not None and each.groups is not None for each in (train, validation)))):
        parameters = parameters.together()
    tracker = None
    if cluster.leader:
        address = own_address(here)
        tracker = RabitTracker(n_workers=len(here.hosts), host_ip=address, port=TRACKER_PORT, sortby="task")
        tracker.start()
        cluster.gather(address)
    else:
        # Nobody connects before the tracker listens: XGBoost waits for seconds between its attempts.
        address = cluster.gather(None)[0]
    collective.init(
        dmlc_communicator="rabit",
        dmlc_tracker_uri=address,
        dmlc_tracker_port=TRACKER_PORT,
        dmlc_task_id=f"{here.rank:06d}",
        dmlc_timeout=_COLLECTIVE_SECONDS,
    )
    model = _boost(parameters, train, validation, start, cluster.leader)
    if cluster.leader:
        _finish(model, parameters)
    collective.finalize()
    if tracker is not None:
        tracker.wait_for()


def _load(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> tuple[Records, Records | None]:
    """This host's records, once all hosts have theirs and they fit together. Raises UserError, the same one on all hosts."""
    given = channels().get("train")
    if cluster is not None and parameters.linear and given is not None and not given.replicated:
        # XGBoost's linear updaters add nothing up over hosts: each would fit its own rows, and the model be the first one's.
        raise UserError(
            "Hyperparameter booster: gblinear trains on the rows of one instance alone. Give the job one instance,"
            " or channel train the S3DataDistributionType FullyReplicated"
        )

    def step() -> dict[str, Records]:
        found = {}
        for channel in needed(("train", "validation"), print):
            rows = found[channel.name] = records.load(channel, parameters)
            print(f"Channel {channel.name}: {rows.rows} rows, {rows.columns} features on this host", flush=True)
        return found

    found, everywhere = program.together(
        cluster,
        here.hosts,
        step,
        lambda found: {name: [r.rows, r.columns, r.format, r.groups is not None, r.names] for name, r in found.items()},
    )
    columns = _agree(everywhere, here.hosts, parameters.ranking)
    train, validation = found["train"].widened(columns), found.get("validation")
    return train, validation.widened(columns) if validation is not None else None


def _agree(everywhere: list[dict[str, Any]], hosts: tuple[str, ...], ranking: bool) -> int:
    """The number of features that all records of all hosts have. Raises UserError."""
    several = len(hosts) > 1
    sizes: dict[str, int] = {}
    total = {"train": 0}
    places: dict[str, tuple[int, str]] = {}
    for host, summary in zip(hosts, everywhere, strict=True):
        for name, (rows, columns, kind, grouped, names) in summary.items():
            where = f"{name} on {host}" if several else name
            total[name] = total.get(name, 0) + rows
            if not rows:
                continue
            if ranking and not grouped:
                raise UserError(f"Channel {name} has no query groups; ranking needs libsvm with qid:n in every line")
            # Sparse rows do not show features that are zero in all of them.
            if kind == "dense":
                sizes[where] = columns
            for i, column in enumerate(names, 1):
                first, there = places.setdefault(column, (i, where))
                if first != i:
                    raise UserError(
                        f"Column {column} is number {first} in {there}, but number {i} in {where}: Parquet files must have"
                        " their columns in the same order in all channels, and on all hosts, the label first"
                    )
    for name, rows in total.items():
        if not rows:
            raise UserError(f"No data in channel {name}" + (" on any host" if several else ""))
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{columns} in {place}" for place, columns in sizes.items())
        raise UserError(f"Feature size mismatch: all rows must have the same number of features, but there are {listed}")
    widest = max(columns for summary in everywhere for rows, columns, *_ in summary.values() if rows)
    if sizes and widest > next(iter(sizes.values())):
        raise UserError(f"Feature size mismatch: a sparse channel has {widest} features, a dense one fewer")
    return int(widest)


def _boost(
    parameters: Hyperparameters, train: Records, validation: Records | None, start: Path | None, leader: bool
) -> xgboost.Booster:
    matrices = [(_matrix(train, parameters), "train")]
    if validation is not None:
        matrices.append((_matrix(validation, parameters), "validation"))
    done = int(start.name.rpartition(".")[2]) + 1 if start else 0
    if start:
        print(f"Resuming from the checkpoint of round {done - 1}", flush=True)
    callbacks: list[Any] = [_Monitor(leader, done)]
    if parameters.early_stopping_rounds is not None and validation is not None:
        callbacks.append(_EarlyStopping(parameters, parameters.early_stopping_rounds))
    if parameters.save_model_on_termination and leader:
        callbacks.append(_SaveEveryRound())
    if leader and CHECKPOINTS.is_dir():
        callbacks.append(_Checkpoints(done))
    few = train.rows * train.columns < _FEW_CELLS and "OMP_NUM_THREADS" not in os.environ
    return xgboost.train(
        ({"nthread": 1} if few else {}) | dict(parameters.parameters),
        matrices[0][0],
        num_boost_round=max(parameters.num_round - done, 0),
        evals=matrices,
        custom_metric=metrics.of(parameters) if parameters.own_metrics else None,
        callbacks=callbacks,
        verbose_eval=False,
        xgb_model=start,
    )


def _matrix(data: Records, parameters: Hyperparameters) -> xgboost.DMatrix:
    bound = data.labels if parameters.survival_times else None
    return xgboost.DMatrix(
        data.features,
        label=data.labels,
        weight=data.weights,
        qid=data.groups,
        label_lower_bound=bound,
        label_upper_bound=bound,
        missing=np.nan,
    )


class _EarlyStopping(xgboost.callback.EarlyStopping):
    """Looks at the metric that was asked for last. In XGBoost's log SageMaker's own come after all others, and what was asked
    for as `error@0.5` is `error`."""

    def __init__(self, parameters: Hyperparameters, rounds: int) -> None:
        watched = parameters.watched_metric
        super().__init__(
            rounds=rounds,
            data_name="validation",
            maximize=metrics.rises(watched) if watched else None,
            save_best=not parameters.linear,
        )
        self._watched = watched
        self._own = parameters.own_metrics

    def before_training(self, model: Any) -> Any:
        """Go on from a checkpoint's best round, if it is of the metric that is looked at now; a model has neither at first."""
        model = super().before_training(model)
        asked = self._watched or ""
        if model.attr(_WATCHED) != asked:
            model.set_attr(best_score=None, best_iteration=None, **{_WATCHED: asked})
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        logged = list(evals_log["validation"])
        name = self._watched if self._watched in logged else [name for name in logged if name not in self._own][-1]
        latest = evals_log["validation"][name][-1]
        if not math.isfinite(latest):
            # None is better than it: the first round would be kept, as if nothing were amiss.
            raise UserError(
                f"Early stopping looks at validation-{name}, which is {latest} in round {self.starting_round + epoch}."
                " Give validation data that it is defined for, such as rows of both classes for auc, or another eval_metric"
            )
        self.metric_name = name
        best = model.attr("best_iteration")
        if best is not None and not self.stopping_history:
            score = float(model.attr("best_score"))
            self.stopping_history["validation"] = {name: [score]}
            self.best_scores["validation"] = {name: [score]}
            self.current_rounds = self.starting_round - 1 - int(best)
        return bool(super().after_iteration(model, epoch, evals_log))

    def after_training(self, model: Any) -> Any:
        """The best rounds alone. Without any, where a checkpoint had all rounds and was made without early stopping, all."""
        return model if model.attr("best_iteration") is None else super().after_training(model)


class _Monitor(xgboost.callback.TrainingCallback):
    """Prints each round's metrics as SageMaker's XGBoost does; they are the same on all hosts, so only the first one prints."""

    def __init__(self, leader: bool, done: int) -> None:
        super().__init__()
        self._leader = leader
        self._done = done

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        for name, log in evals_log["train"].items():
            if name.partition("@")[0] in _LOSSES and not math.isfinite(log[-1]):
                raise UserError(
                    f"The training loss is not a finite number in round {self._done + epoch}: train-{name} is {log[-1]}."
                    " Reduce eta, or the size of labels and weights"
                )
        if self._leader:
            fields = [f"{data}-{name}:{log[-1]:.5f}" for data, logs in evals_log.items() for name, log in logs.items()]
            print("\t".join([f"[{time.strftime('%H:%M:%S')}] [{self._done + epoch}]", *fields]), flush=True)
        return False


class _SaveEveryRound(xgboost.callback.TrainingCallback):
    """Keeps the model of the last round on disk, for a job that is stopped."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        _save(model)
        return False


class _Checkpoints(xgboost.callback.TrainingCallback):
    """Keeps the models of the last rounds where the job keeps checkpoints, for a run that goes on from there."""

    def __init__(self, done: int) -> None:
        super().__init__()
        self._done = done

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        number = self._done + epoch
        _write(model, CHECKPOINTS / f"{_CHECKPOINT}.{number}")
        (CHECKPOINTS / f"{_CHECKPOINT}.{number - _CHECKPOINTS_KEPT}").unlink(missing_ok=True)
        return False


def _latest_checkpoint(cluster: Cluster | None) -> Path | None:
    """The latest checkpoint of an earlier run of the job that every host has."""
    names = (path.name.rpartition(".") for path in CHECKPOINTS.glob(f"{_CHECKPOINT}.*"))
    mine = [int(number) for stem, _, number in names if stem == _CHECKPOINT and number.isdecimal()]
    everywhere = cluster.gather(mine) if cluster else [mine]
    common = set(mine).intersection(*everywhere)
    return CHECKPOINTS / f"{_CHECKPOINT}.{max(common)}" if common else None


def _finish(model: xgboost.Booster, parameters: Hyperparameters) -> None:
    """Keep the model, and beside it how much each feature has to do with what it says."""
    _save(model)
    kinds = _IMPORTANCE[:1] if parameters.linear else _IMPORTANCE
    OUTPUT.mkdir(parents=True, exist_ok=True)
    importance = {kind: model.get_score(importance_type=kind) for kind in kinds}
    (OUTPUT / "feature_importance.json").write_text(json.dumps(importance, indent=2) + "\n")


def _save(model: xgboost.Booster) -> None:
    """Write /opt/ml/model/xgboost-model, complete or not at all."""
    MODEL.mkdir(parents=True, exist_ok=True)
    _write(model, MODEL / "xgboost-model")


def _write(model: xgboost.Booster, path: Path) -> None:
    draft = path.with_name(f".{path.name}.ubj")
    model.save_model(draft)
    draft.rename(path)


def _words(error: BaseException) -> str | None:
    """What an XGBoostError says, without its place in XGBoost's source and its stack of addresses."""
    if not isinstance(error, xgboost.core.XGBoostError):
        return None
    said = str(error).split("\nStack trace:")[0]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: (Check failed: [^:]*: (?=\s*\S))?", "", said).strip() or "unknown error"


if __name__ == "__main__":
    main()
