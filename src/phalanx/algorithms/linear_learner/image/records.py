"""Training data: the files of a channel, as CSV (label first, no header) or recordio-protobuf, dense or sparse."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import recordio
import tables
import torch
from contract import Channel, UserError
from hyperparameters import Hyperparameters
from mesh import Mesh

_CONTENT_TYPES = {
    "application/x-recordio-protobuf": "recordio-protobuf",
    "csv": "csv",
    "text/csv": "csv",
}


@dataclass(frozen=True)
class Records:
    """Rows of a channel on this host: features (dense, or scipy's CSR matrix) and labels, float32."""

    features: Any
    labels: Any

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.labels.shape[0])

    @property
    def columns(self) -> int:
        """Number of features that the rows show; 0 where there are none."""
        return int(self.features.shape[1])

    @property
    def sparse(self) -> bool:
        """Whether features that are 0 are left out."""
        return not isinstance(self.features, np.ndarray)

    def parts(self, rows: int) -> Iterator[Records]:
        """The same rows, so many at a time."""
        for start in range(0, self.rows, rows):
            yield Records(self.features[start : start + rows], self.labels[start : start + rows])

    def drawn(self, count: int, mesh: Mesh) -> Records:
        """This host's share of `count` rows of all hosts, drawn at random, or of all where there are no more.

        The same rows each time; every host must call it. A file's first rows would not do: they may be of one class.
        """
        total = round(float(mesh.sum(torch.tensor([float(self.rows)], dtype=torch.float64))))
        if count >= total:
            return self
        share = -(-count * self.rows // total)
        chosen = np.sort(np.random.default_rng(mesh.rank).permutation(self.rows)[:share])
        return Records(self.features[chosen], self.labels[chosen])

    def widened(self, columns: int) -> Records:
        """The same rows with so many features: sparse ones do not show those that no row here has."""
        if self.columns == columns:
            return self
        if not self.rows:
            return Records(np.empty((0, columns), np.float32), self.labels)
        features = self.features.copy()
        features.resize((self.rows, columns))
        return Records(features, self.labels)


def load(channel: Channel, parameters: Hyperparameters) -> Records:
    """All records of the channel's files on this host, maybe none. Raises UserError."""
    kind = tables.kind(channel, "application/x-recordio-protobuf", _CONTENT_TYPES)
    features, labels = _csv(channel) if kind == "csv" else recordio.load(channel.name, channel.files())
    _check(channel.name, features, labels, parameters)
    return Records(features, labels)


def _csv(channel: Channel) -> tuple[Any, Any]:
    def read(path: Path) -> Any:
        try:
            with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings(category=UserWarning, action="ignore"):
                table = np.loadtxt(file, np.float32, comments=None, delimiter=",", quotechar='"', ndmin=2)
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(
                f"Failed to load csv data of channel {channel.name} ({path.name}): {error}."
                " Every row needs the same number of numbers, the label first, and no header"
            ) from error
        return table if table.size else None

    whole = tables.load(channel, read)
    if whole is None:
        return np.empty((0, 0), np.float32), np.empty(0, np.float32)
    if whole.shape[1] < 2:
        raise UserError(f"Channel {channel.name} has one column: no feature is left beside the label")
    return np.ascontiguousarray(whole[:, 1:]), whole[:, 0].copy()


def _check(name: str, features: Any, labels: Any, parameters: Hyperparameters) -> None:
    for what, found in (("label", labels), ("feature", getattr(features, "data", features))):
        wrong = np.count_nonzero(~np.isfinite(np.asarray(found)))
        if wrong:
            raise UserError(f"Channel {name}: {wrong} {what} values are missing or no finite numbers")
    if parameters.regression:
        return
    last = 1 if parameters.binary else parameters.classes - 1
    wrong = labels[(labels < 0) | (labels > last) | (labels != np.round(labels))]
    if wrong.size:
        raise UserError(
            f"Channel {name}: labels must be whole numbers from 0 to {last} for predictor_type"
            f" {parameters.predictor_type}, but {wrong[0]:g} was found"
        )
