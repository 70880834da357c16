"""Checkpoints of each round, from which a job goes on that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xgboost
from xgboost import collective

CHECKPOINT_FILENAME = "xgboost-checkpoint"


def train(train_args: dict[str, Any], checkpoint_dir: str) -> xgboost.Booster:
    """`xgboost.train(**train_args)`, from the latest checkpoint in the directory on, and with one for each further round."""
    model, done = load_checkpoint(checkpoint_dir)
    if model is not None:
        print(f"Resuming from the checkpoint of round {done - 1}", flush=True)
    callbacks = [*(train_args.get("callbacks") or []), _Evaluation(done), save_checkpoint(checkpoint_dir, done)]
    given = {**train_args, "callbacks": callbacks, "verbose_eval": False, "xgb_model": model}
    given["num_boost_round"] = max(train_args.get("num_boost_round", 10) - done, 0)
    return xgboost.train(**given)


def load_checkpoint(checkpoint_dir: str | None, max_try: int = 5) -> tuple[str | None, int]:
    """The file of the latest checkpoint that can be read, and the number of its rounds; None and 0 without one.

    The `max_try` latest are tried.
    """
    names = [path.name.rpartition(".") for path in Path(checkpoint_dir or "/nowhere").glob(f"{CHECKPOINT_FILENAME}.*")]
    numbers = sorted(int(number) for stem, _, number in names if stem == CHECKPOINT_FILENAME and number.isdecimal())
    for number in numbers[: -max_try - 1 : -1]:
        path = _path(str(checkpoint_dir), number)
        try:
            xgboost.Booster().load_model(path)
        except xgboost.core.XGBoostError:
            continue
        return str(path), number + 1
    return None, 0


def save_checkpoint(
    checkpoint_dir: str, start_iteration: int = 0, max_to_keep: int = 5, num_round: int | None = None
) -> SaveCheckpoint:
    """See SaveCheckpoint."""
    return SaveCheckpoint(checkpoint_dir, start_iteration, max_to_keep, num_round)


class SaveCheckpoint(xgboost.callback.TrainingCallback):
    """Keeps the models of the last `max_to_keep` rounds, on the first host; `start_iteration` is the number of the first
    round. `num_round` makes no difference."""

    def __init__(
        self, checkpoint_dir: str, start_iteration: int = 0, max_to_keep: int = 5, num_round: int | None = None
    ) -> None:
        super().__init__()
        self.checkpoint_dir = checkpoint_dir
        self.start_iteration = start_iteration
        self.max_to_keep = max_to_keep
        Path(checkpoint_dir).mkdir(parents=True, exist_ok=True)

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """See xgboost.callback.TrainingCallback."""
        if collective.get_rank() == 0:
            number = self.start_iteration + epoch
            path = _path(self.checkpoint_dir, number)
            # Hidden, as it is not uploaded, and named so that XGBoost knows its format.
            draft = path.with_name(f".{path.name}.ubj")
            model.save_model(draft)
            draft.rename(path)
            _path(self.checkpoint_dir, number - self.max_to_keep).unlink(missing_ok=True)
        return False


class _Evaluation(xgboost.callback.TrainingCallback):
    """Prints each round's metrics, counted from the first run's first round."""

    def __init__(self, start_iteration: int) -> None:
        super().__init__()
        self._start = start_iteration

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        fields = [f"{data}-{name}:{log[-1]:.5f}" for data, logs in evals_log.items() for name, log in logs.items()]
        if fields and collective.get_rank() == 0:
            print("\t".join([f"[{self._start + epoch}]", *fields]), flush=True)
        return False


def _path(directory: str, number: int) -> Path:
    return Path(directory) / f"{CHECKPOINT_FILENAME}.{number}"
