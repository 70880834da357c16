"""Linear learner on one or more hosts, as SageMaker's built-in algorithm; knows the container contract alone."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import program
import torch
from calibration import threshold
from cluster import Cluster
from contract import CHECKPOINTS, MODEL, Resources, UserError, needed
from evaluation import LOSSES, binary, multiclass, regression
from hyperparameters import Hyperparameters, read
from learner import Learner
from losses import Loss, in_units, loss
from mesh import Mesh
from records import Records, load
from scaling import measure
from torch import Tensor

CHANNELS = ("train", "validation", "test")
_CALIBRATION_ROWS = 1_000_000
_SAMPLED_ROWS = 10_000
"""Of the criterion at the end of an epoch; the choice at the end of training sees _CALIBRATION_ROWS by default."""

log = program.log("linear learner")


def main() -> None:
    """Train; ends the process."""
    program.run(read, train)


def train(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> None:
    """Train on this host's data, together with the other hosts; the first one writes the model."""
    data, columns, sparse = _load(parameters, here, cluster)
    mesh = Mesh(here, cluster)
    run = Run(parameters, here, mesh, data, columns, sparse)
    run.train()
    chosen = run.choose()
    if mesh.leader:
        run.save(*chosen)


def _load(parameters: Hyperparameters, here: Resources, cluster: Cluster | None) -> tuple[dict[str, Records], int, bool]:
    """This host's records by channel, once all hosts have theirs; the number of features, and whether some are sparse."""

    def step() -> dict[str, Records]:
        found = {}
        for channel in needed(CHANNELS, log.info):
            rows = found[channel.name] = load(channel, parameters)
            log.info("Channel %s: %d rows, %d features on this host", channel.name, rows.rows, rows.columns)
        return found

    found, everywhere = program.together(
        cluster, here.hosts, step, lambda found: {name: [r.rows, r.columns, r.sparse] for name, r in found.items()}
    )
    totals: dict[str, int] = {}
    dense, widest = {}, 0
    for host, told in zip(here.hosts, everywhere, strict=True):
        for name, (rows, width, sparse) in told.items():
            totals[name] = totals.get(name, 0) + rows
            widest = max(widest, width)
            if rows and not sparse:
                dense[f"{name} on {host}" if cluster else name] = width
    for name, total in totals.items():
        if not total:
            raise UserError(f"No data in channel {name}" + (" on any host" if cluster else ""))
    columns = parameters.feature_dim or widest
    wrong = [f"{width} in {place}" for place, width in dense.items() if width != columns]
    if wrong or widest > columns:
        expected = f"feature_dim is {columns}" if parameters.feature_dim else f"the widest has {columns}"
        raise UserError(f"Feature size mismatch: {expected}, but there are {', '.join(wrong) or widest}")
    sparse = any(told["train"][0] and told["train"][2] for told in everywhere)
    return {name: records.widened(columns) for name, records in found.items()}, columns, sparse


class Run:
    """Training, on one host of all: `data` are its records by channel, `columns` the number of features."""

    def __init__(
        self, parameters: Hyperparameters, here: Resources, mesh: Mesh, data: dict[str, Records], columns: int, sparse: bool
    ) -> None:
        self._parameters, self._host, self._mesh, self._given = parameters, here.host, mesh, data
        self._scaling = measure(data["train"], parameters, mesh, columns, sparse)
        self._data = {name: self._scaling.apply(records) for name, records in data.items()}
        unit = self._scaling.label_scale
        self._samples: dict[tuple[str, int], Records] = {}
        self._loss: Loss = loss(parameters, unit)
        self._unit = in_units(parameters, unit)
        self._total = round(float(mesh.sum(torch.tensor([float(data["train"].rows)], dtype=torch.float64))))
        balance, self._class_weights = self._balance()
        self._candidates = parameters.candidates(columns)
        self._learner = Learner(columns, self._candidates, parameters, balance, mesh)
        self._best = self._learner.weights
        log.info("Training %d models on %d rows of %d features", len(self._candidates), self._total, columns)

    def train(self) -> None:
        """All epochs, or as many as bring something; keeps the weights of the best one."""
        given = self._parameters
        first, best, waited = self._resume()
        if self._mesh.greatest(first) != -self._mesh.greatest(-first):
            raise UserError(
                f"The hosts' checkpoints differ; this one's is of epoch {first - 1}. Give another CheckpointConfig.S3Uri"
            )
        for epoch in range(first, given.epochs):
            if waited >= given.early_stopping_patience:
                log.info("Early stop condition met. Stopping training.")
                break
            started = time.monotonic()
            losses = self._learner.epoch(self._data["train"], self._total, self._loss, self._class_weights, epoch) * self._unit
            if not torch.isfinite(losses).any():
                raise UserError(
                    f"The training loss is not a finite number in epoch {epoch}: reduce learning_rate, or normalize_data"
                )
            self._report(f"epoch={epoch}, train {given.objective} <loss>", _least(losses))
            criterion, value, least = self._criterion(losses, epoch)
            self._say(f"#early_stopping_criteria_metric: host={self._host}, epoch={epoch}, criteria={criterion}, value={value}")
            if best is None or best[0] - value > given.early_stopping_tolerance * abs(best[0]):
                waited = 0
                self._say(f"Epoch {epoch}: Loss improved. Updating best model")
            else:
                waited += 1
                self._say(f"Epoch {epoch}: Loss has not improved for {waited} epochs.")
            # An accuracy cannot rise any more where it is 1; the loss goes on falling.
            if best is None or (value, least) < best:
                best, self._best = (value, least), self._learner.weights
            self._say(f"#progress_metric: host={self._host}, completed {100 * (epoch + 1) // given.epochs} % of epochs")
            speed = self._total / max(time.monotonic() - started, 1e-9)
            self._say(f"#throughput_metric: host={self._host}, train throughput={speed} records/second")
            self._checkpoint(epoch, best, waited)

    def choose(self) -> tuple[int, float | None]:
        """The best model on validation data, or on training data where there is none: its number, and its threshold."""
        given = self._parameters
        source = "validation" if "validation" in self._data else "train"
        limit = given.num_calibration_samples or _CALIBRATION_ROWS
        records = self._sample(source, limit)
        losses = self._learner.mean_loss(records, self._best, self._loss) * self._unit
        chosen, limit_of = _index(losses), None
        if given.binary:
            if given.binary_classifier_model_selection_criteria not in ("loss_function", "cross_entropy_loss"):
                thresholds, values = self._thresholds(records, self._best)
                # Of equally good ones the one with the least loss.
                ties = torch.where(values >= values[torch.isfinite(losses)].max() - 1e-12, losses, torch.inf)
                chosen = _index(ties)
                limit_of = thresholds[chosen]
            else:
                limit_of = self._default_threshold
        for name in self._data:
            self._score(name, chosen, limit_of)
        candidate = dataclasses.asdict(self._candidates[chosen])
        candidate["positive_weight"] = float(self._learner.positive[chosen])
        self._say(f"Best model found for hyperparameters: {json.dumps({**candidate, 'optimizer': given.optimizer})}")
        return chosen, limit_of

    def save(self, chosen: int, limit: float | None) -> None:
        """Write /opt/ml/model/model_algo-1: docs/algorithms.md says how to load it."""
        weights, bias = self._scaling.undo(self._best[:-1, chosen], self._best[-1, chosen])
        content: dict[str, Any] = {
            "weight": weights.T.contiguous(),
            "bias": bias,
            "predictor_type": self._parameters.predictor_type,
            "loss": self._parameters.loss,
        }
        if limit is not None:
            content["threshold"] = limit
        MODEL.mkdir(parents=True, exist_ok=True)
        _write(content, MODEL / f"model_{self._host}")

    @property
    def _default_threshold(self) -> float:
        return 0.5 if self._parameters.loss == "logistic" else 0.0

    def _criterion(self, losses: Tensor, epoch: int) -> tuple[str, float, float]:
        """What early stopping looks at (less is better), and the loss: on validation data where there are some."""
        given = self._parameters
        if "validation" not in self._data:
            return given.objective, _least(losses), _least(losses)
        weights = self._learner.weights
        validation = self._learner.mean_loss(self._data["validation"], weights, self._loss) * self._unit
        self._report(f"epoch={epoch}, validation {given.objective} <loss>", _least(validation))
        name = given.binary_classifier_model_selection_criteria
        if not given.binary or name in ("loss_function", "cross_entropy_loss"):
            return given.objective, _least(validation), _least(validation)
        _, values = self._thresholds(self._sample("validation", _SAMPLED_ROWS), weights)
        return f"sampled_{name}", -float(values[torch.isfinite(validation)].max()), _least(validation)

    def _thresholds(self, records: Records, weights: Tensor) -> tuple[list[float], Tensor]:
        """Of each model, the threshold that serves the criterion best on all hosts' rows, and the criterion with it.

        Each host finds those of its share of the models.
        """
        mesh, labels = self._mesh, self._mesh.collect(torch.from_numpy(records.labels))
        columns = self._outputs(records, weights).squeeze(2).unbind(1)
        found = torch.zeros((2, len(columns)), dtype=torch.float64)
        for number, scores in zip(range(mesh.rank, len(columns), mesh.size), mesh.deal(columns), strict=True):
            best = threshold(torch.nan_to_num(scores), labels, self._parameters, self._default_threshold)
            found[:, number] = torch.tensor(best)
        thresholds, values = mesh.sum(found)
        return thresholds.tolist(), values

    def _outputs(self, records: Records, weights: Tensor) -> Tensor:
        """Scores as a user sees them: probabilities where the loss has such."""
        scores = self._learner.scores(records, weights)
        return torch.sigmoid(scores) if self._parameters.loss == "logistic" else scores

    def _sample(self, name: str, rows: int) -> Records:
        """So many rows of a channel in all, or all of them: the same ones in each epoch."""
        if (name, rows) not in self._samples:
            self._samples[name, rows] = self._data[name].drawn(rows, self._mesh)
        return self._samples[name, rows]

    def _score(self, name: str, chosen: int, limit: float | None) -> None:
        """Report the chosen model's scores on a channel."""
        given, records = self._parameters, self._data[name]
        weights = self._best[:, chosen : chosen + 1]
        values = {given.objective: float(self._learner.mean_loss(records, weights, self._loss)) * self._unit}
        if given.binary:
            outputs = self._outputs(records, weights)[:, 0, 0]
            values |= binary(outputs, torch.from_numpy(records.labels), limit or 0.0, given, self._mesh)
        elif given.regression:
            scaling = self._scaling
            original = self._outputs(records, weights)[:, 0, 0] * scaling.label_scale + scaling.label_shift
            values |= regression(original, torch.from_numpy(self._given[name].labels), self._mesh)
        else:
            parts = self._learner.parts(records, weights)
            scored = ((self._outputs(part, weights)[:, 0], torch.from_numpy(part.labels)) for part in parts)
            values |= multiclass(scored, given, self._mesh)
        for metric, value in values.items():
            self._say(f"#{name}_score ({self._host}) : ('{metric}', {value})")
        for metric, value in values.items():
            kind = "loss" if metric == given.objective or metric in LOSSES else "score"
            self._report(f"{name} {metric} <{kind}>", value)

    def _balance(self) -> tuple[float, Tensor | None]:
        """The weight of positive rows that makes both classes count the same; and weights that do so for many classes."""
        given, labels = self._parameters, torch.from_numpy(self._given["train"].labels)
        if given.binary:
            positives = float(self._mesh.sum(labels.double().sum()))
            return (self._total - positives) / positives if positives else 1.0, None
        if given.regression or not given.balance_multiclass_weights:
            return 1.0, None
        counts = self._mesh.sum(labels.long().bincount(minlength=given.classes).float())
        return 1.0, self._total / (given.classes * counts.clamp(min=1))

    def _checkpoint(self, epoch: int, best: tuple[float, float] | None, waited: int) -> None:
        """Keep what training goes on from, where the job keeps checkpoints."""
        if not self._mesh.leader or not CHECKPOINTS.is_dir():
            return
        state = {**self._learner.state(), "epoch": epoch, "best": best, "waited": waited, "best_weights": self._best}
        _write(state, CHECKPOINTS / "linear-learner")

    def _resume(self) -> tuple[int, tuple[float, float] | None, int]:
        """Go on from the checkpoint of an earlier run of the job, which every host has: the epoch to begin with."""
        file = CHECKPOINTS / "linear-learner"
        if not file.is_file():
            return 0, None, 0
        try:
            state = torch.load(file, weights_only=True)
            self._learner.restore(state)
            self._best = state["best_weights"]
            log.info("Resuming from the checkpoint of epoch %d", state["epoch"])
            return state["epoch"] + 1, state["best"], state["waited"]
        except Exception as error:
            raise UserError(f"The checkpoint {file} cannot be used: {error}. Give another CheckpointConfig.S3Uri") from error

    def _report(self, what: str, value: float) -> None:
        self._say(f"#quality_metric: host={self._host}, {what}={value}")

    def _say(self, text: str) -> None:
        """A line that is the same for all hosts: the first one prints it."""
        if self._mesh.leader:
            log.info("%s", text)


def _write(content: dict[str, Any], path: Path) -> None:
    """Write a file that torch.load reads, complete or not at all."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        torch.save(content, file)
    draft.rename(path)


def _index(losses: Tensor) -> int:
    return int(torch.nan_to_num(losses, nan=torch.inf, posinf=torch.inf).argmin())


def _least(losses: Tensor) -> float:
    return float(losses[_index(losses)])


if __name__ == "__main__":
    main()
