"""XGBoost on one or more hosts, as SageMaker's built-in algorithm: `train.py train`, with the container contract alone."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from typing import Any, NoReturn

# Blocked before any library starts threads, and waited for in one of our own: as process 1 of a container a default
# action would be ignored, and a handler would wait for XGBoost to come back from a long iteration.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

import hyperparameters  # noqa: E402
import numpy as np  # noqa: E402
import records  # noqa: E402
import xgboost  # noqa: E402
from cluster import Cluster, ClusterError, own_address  # noqa: E402
from contract import MODEL, Resources, UserError, channels, resources, write_failure  # noqa: E402
from contract import hyperparameters as given_hyperparameters  # noqa: E402
from hyperparameters import Hyperparameters  # noqa: E402
from records import Records  # noqa: E402
from xgboost import collective  # noqa: E402
from xgboost.tracker import RabitTracker  # noqa: E402

TRACKER_PORT = 9099
_COLLECTIVE_SECONDS = 7 * 24 * 3600
"""XGBoost's patience with a slow peer. A dead one is noticed by the cluster."""
_VERDICT_SECONDS = 2.0


def main() -> None:
    """Train; ends the process with 0, or 1 and the cause in /opt/ml/output/failure."""
    threading.Thread(target=_die_when_told, name="sigterm", daemon=True).start()
    # XGBoost warns of what is meant: a model file without an extension, parameters of another booster.
    warnings.filterwarnings("ignore", category=UserWarning, module="xgboost")
    cluster: Cluster | None = None
    try:
        parameters = hyperparameters.parse(given_hyperparameters())
        here = resources()
        if len(here.hosts) > 1:
            cluster = Cluster(here, _end)
            cluster.join()
            print(f"Host {here.host}: joined {len(here.hosts)} hosts", flush=True)
        _train(parameters, here, cluster)
    except (UserError, ClusterError) as error:
        _fail(cluster, str(error))
    except BaseException as error:
        traceback.print_exc()
        if cluster is not None:
            # A peer that ended breaks XGBoost's connections too; the cluster knows which one, and why.
            time.sleep(_VERDICT_SECONDS)
        text = str(error) if isinstance(error, xgboost.core.XGBoostError) else f"{type(error).__name__}: {error}"
        host = f"{resources().host}: " if cluster is not None else ""
        _fail(cluster, host + _plain(text))
    # Without the interpreter's clean-up: XGBoost's threads may outlive what they use.
    _exit(0)


def _train(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> None:
    train, validation = _load(parameters, cluster)
    if cluster is None:
        _save(_boost(parameters, train, validation, leader=True))
        return
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
    model = _boost(parameters, train, validation, cluster.leader)
    if cluster.leader:
        _save(model)
    collective.finalize()
    if tracker is not None:
        tracker.wait_for()
    cluster.leave()


def _load(parameters: Hyperparameters, cluster: Cluster | None) -> tuple[Records, Records | None]:
    """This host's records, once all hosts have theirs and they fit together. Raises UserError, the same one on all hosts."""
    found: dict[str, Records] = {}
    error = None
    try:
        given = channels()
        if "train" not in given:
            raise UserError("Missing required channel: train")
        for name in sorted(given):
            if name not in ("train", "validation"):
                print(f"Channel {name} is not used")
                continue
            found[name] = records.load(given[name], parameters)
            print(f"Channel {name}: {found[name].rows} rows, {found[name].columns} features on this host", flush=True)
    except UserError as cause:
        error = str(cause)
    summary = {
        "error": error,
        "channels": {name: [r.rows, r.columns, r.format, r.groups is not None] for name, r in found.items()},
    }
    everywhere = cluster.gather(summary) if cluster else [summary]
    columns = _agree(everywhere, resources().hosts, parameters.ranking)
    train, validation = found["train"].widened(columns), found.get("validation")
    return train, validation.widened(columns) if validation is not None else None


def _agree(everywhere: list[dict[str, Any]], hosts: tuple[str, ...], ranking: bool) -> int:
    """The number of features that all records of all hosts have. Raises UserError."""
    several = len(hosts) > 1
    for host, summary in zip(hosts, everywhere, strict=True):
        if summary["error"]:
            raise UserError(f"{host}: {summary['error']}" if several else summary["error"])
    sizes: dict[str, int] = {}
    total = {"train": 0}
    for host, summary in zip(hosts, everywhere, strict=True):
        for name, (rows, columns, kind, grouped) in summary["channels"].items():
            total[name] = total.get(name, 0) + rows
            if not rows:
                continue
            if ranking and not grouped:
                raise UserError(f"Channel {name} has no query groups; ranking needs libsvm with qid:n in every line")
            # Sparse rows do not show features that are zero in all of them.
            if kind == "csv":
                sizes[f"{name} on {host}" if several else name] = columns
    for name, rows in total.items():
        if not rows:
            raise UserError(f"No data in channel {name}" + (" on any host" if several else ""))
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{columns} in {place}" for place, columns in sizes.items())
        raise UserError(f"Feature size mismatch: all rows must have the same number of features, but there are {listed}")
    widest = max(columns for summary in everywhere for rows, columns, *_ in summary["channels"].values() if rows)
    if sizes and widest > next(iter(sizes.values())):
        raise UserError(f"Feature size mismatch: a libsvm channel has {widest} features, a csv channel fewer")
    return int(widest)


def _boost(parameters: Hyperparameters, train: Records, validation: Records | None, leader: bool) -> xgboost.Booster:
    matrices = [(_matrix(train), "train")]
    if validation is not None:
        matrices.append((_matrix(validation), "validation"))
    callbacks: list[Any] = [_Monitor(leader)]
    if parameters.early_stopping_rounds is not None:
        best = parameters.parameters.get("booster") != "gblinear"
        callbacks.append(xgboost.callback.EarlyStopping(rounds=parameters.early_stopping_rounds, save_best=best))
    if parameters.save_model_on_termination and leader:
        callbacks.append(_SaveEveryRound())
    return xgboost.train(
        dict(parameters.parameters),
        matrices[0][0],
        num_boost_round=parameters.num_round,
        evals=matrices,
        callbacks=callbacks,
        verbose_eval=False,
    )


def _matrix(data: Records) -> xgboost.DMatrix:
    return xgboost.DMatrix(data.features, label=data.labels, weight=data.weights, qid=data.groups, missing=np.nan)


class _Monitor(xgboost.callback.TrainingCallback):
    """Prints each round's metrics as SageMaker's XGBoost does; they are the same on all hosts, so only the first one prints."""

    def __init__(self, leader: bool) -> None:
        super().__init__()
        self._leader = leader

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if self._leader:
            fields = [f"{data}-{name}:{log[-1]:.5f}" for data, logs in evals_log.items() for name, log in logs.items()]
            print("\t".join([f"[{time.strftime('%H:%M:%S')}] [{epoch}]", *fields]), flush=True)
        return False


class _SaveEveryRound(xgboost.callback.TrainingCallback):
    """Keeps the model of the last round on disk, for a job that is stopped."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        _save(model)
        return False


def _save(model: xgboost.Booster) -> None:
    """Write /opt/ml/model/xgboost-model, complete or not at all."""
    MODEL.mkdir(parents=True, exist_ok=True)
    draft = MODEL / ".xgboost-model.ubj"
    model.save_model(draft)
    draft.rename(MODEL / "xgboost-model")


def _die_when_told() -> None:
    signal.sigwait({signal.SIGTERM})
    print("SIGTERM: training ends", flush=True)
    _exit(128 + signal.SIGTERM)


def _fail(cluster: Cluster | None, reason: str) -> NoReturn:
    write_failure(reason)
    if cluster is not None:
        cluster.fail(reason)
    _end(reason)


def _end(reason: str) -> NoReturn:
    write_failure(reason)
    print(f"Training failed: {reason}", file=sys.stderr, flush=True)
    _exit(1)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _plain(text: str) -> str:
    """What an XGBoostError says, without its place in XGBoost's source and its stack of addresses."""
    return (
        re.sub(r"^\[[\d:]+\] \S+:\d+: (Check failed: [^:]*: )?", "", text.split("\nStack trace:")[0]).strip() or "unknown error"
    )


if __name__ == "__main__":
    main()
