"""Training data: the files of a channel, as CSV or Parquet (label first), libsvm or recordio-protobuf."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import recordio
import tables
from contract import Channel, UserError
from hyperparameters import Hyperparameters
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

CONTENT_TYPES = {
    "application/x-parquet": "parquet",
    "application/x-recordio-protobuf": "recordio-protobuf",
    "csv": "csv",
    "text/csv": "csv",
    "libsvm": "libsvm",
    "parquet": "parquet",
    "recordio-protobuf": "recordio-protobuf",
    "text/libsvm": "libsvm",
    "text/x-libsvm": "libsvm",
}
_MISSING = [*ConvertOptions().null_values, "None", "<NA>"]
_BLOCK = 1 << 20
"""Bytes of CSV that are read at a time; a row has to fit."""


@dataclass(frozen=True)
class Records:
    """Rows of a channel on this host. `columns` is the number of features; `groups` the query of each row (ranking);
    `names` the columns' own, label and features, where they have such."""

    format: str
    features: Any
    labels: Any
    weights: Any = None
    groups: Any = None
    names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.features.shape[0])

    @property
    def columns(self) -> int:
        """Number of features; 0 where there are no rows."""
        return int(self.features.shape[1])

    def widened(self, columns: int) -> Records:
        """The same rows with at least so many features: sparse rows do not show those that no row here has."""
        if self.columns >= columns:
            return self
        if self.rows and self.format == "dense":
            raise ValueError("dense rows have all their features")
        features = csr_matrix(self.features)
        features.resize((self.rows, columns))
        return replace(self, features=features)


def load(channel: Channel, parameters: Hyperparameters) -> Records:
    """All records of the channel's files on this host, maybe none. Raises UserError."""
    kind = tables.kind(channel, "text/libsvm", CONTENT_TYPES)
    if kind == "csv":
        found = _table(channel, lambda path: _csv(channel, path), parameters.csv_weights)
    elif kind == "parquet":
        found = _parquet(channel)
    elif kind == "libsvm":
        found = _libsvm(channel)
    else:
        features, labels = recordio.load(channel.name, channel.files())
        found = Records("dense" if isinstance(features, np.ndarray) else "sparse", features, labels)
    _check_labels(channel, found.labels, *parameters.labels)
    return found


def _table(channel: Channel, read: Callable[[Path], Any], weighted: bool) -> Records:
    """Rows of numbers, the label first, then the weight where rows have one."""
    whole = tables.load(channel, read)
    first = 2 if weighted else 1
    if whole is None:
        return _nothing("dense")
    if whole.shape[1] <= first:
        raise UserError(f"Channel {channel.name} has {whole.shape[1]} columns: no feature is left beside the label")
    return Records("dense", whole[:, first:], whole[:, 0], whole[:, 1] if weighted else None)


def _csv(channel: Channel, path: Path) -> Any:
    delimiter = ","
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), None)
            if first is None:
                return None
            # Arrow takes a single row for none where its line has no end.
            first += b"" if first.endswith(b"\n") else b"\n"
            head = first.decode("utf-8", "replace")
            delimiter = _delimiter(head)
            columns = len(next(csv.reader([head], delimiter=delimiter)))
            found = read_csv(
                _Resumed(first, file),
                # Columns without names are called so.
                ReadOptions(autogenerate_column_names=True, block_size=max(_BLOCK, 4 * len(first))),
                ParseOptions(delimiter=delimiter),
                convert_options=ConvertOptions(
                    column_types={f"f{i}": pa.float32() for i in range(columns)}, null_values=_MISSING
                ),
            )
        numbers = np.empty((found.num_columns, found.num_rows), np.float32)
        for i, column in enumerate(found.columns):
            numbers[i] = column.to_numpy()
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"Failed to load csv data of channel {channel.name} ({path.name}): {str(error).strip()}."
            f" Every row needs the same number of numbers, with {delimiter!r} between them as in the first row, the label"
            " first, and no header"
        ) from error
    return numbers.T


def _delimiter(line: str) -> str:
    """What is between the numbers of a CSV file, by its first line: a comma, or else what SageMaker takes in its place."""
    # Several spaces in a row, or some at an end, would be missing numbers.
    spaced = "" not in line.rstrip("\r\n").split(" ")
    return next((mark for mark in ",;\t|" if mark in line), " " if spaced and " " in line else ",")


class _Resumed:
    """A file, or a pipe, from its first line again, which was read before."""

    closed = False

    def __init__(self, first: bytes, file: BinaryIO) -> None:
        self._first = first
        self._file = file

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if not self._first:
            return self._file.read(size)
        head, self._first = self._first[:size], self._first[size:]
        return head


def _parquet(channel: Channel) -> Records:
    """The columns in the order of the first file: files are parts of one table, whose columns have names."""
    if channel.piped:
        raise UserError(f"Channel {channel.name}: Parquet files cannot be told apart in a pipe; use File or FastFile mode")
    # A quarter of a second, which CSV does not need.
    import pandas as pd  # type: ignore[import-untyped]

    names: list[str] = []

    def read(path: Path) -> Any:
        try:
            frame = pd.read_parquet(path)
            if not len(frame):
                return None
            frame.columns = frame.columns.map(str)
            if not names:
                names.extend(frame.columns)
            elif set(frame.columns) != set(names):
                differing = ", ".join(sorted(set(frame.columns) ^ set(names))[:10])
                raise UserError(
                    f"Feature size mismatch in channel {channel.name}: {path.name} and an earlier file differ in columns:"
                    f" {differing}"
                )
            return (frame if list(frame.columns) == names else frame[names]).to_numpy(np.float32)
        except (ValueError, TypeError, OSError) as error:
            raise UserError(
                f"Failed to load parquet data of channel {channel.name} ({path.name}): {str(error).strip()}."
                " Every column must hold numbers, the first one the labels"
            ) from error

    return replace(_table(channel, read, False), names=tuple(names))


def _libsvm(channel: Channel) -> Records:
    """`label[:weight] [qid:n] index:value …`; indices are taken as they are, as XGBoost itself does.

    A query's group are the lines of a file that follow each other with its number: in another file it may mean another query.
    """
    # Lists would take eight times their memory.
    labels, weights, values = array("f"), array("f"), array("f")
    groups, ends = array("q"), array("q", [0])
    indices = array("i")
    for path in channel.files():
        query: int | None = None
        for number, line in _lines(path):
            try:
                head, *rest = line.split()
                label, _, weight = head.partition(":")
                labels.append(float(label))
                if weight:
                    weights.append(float(weight))
                if rest and rest[0].startswith("qid:"):
                    qid = int(rest.pop(0)[4:])
                    groups.append((groups[-1] if groups else 0) + (qid != query))
                    query = qid
                for item in rest:
                    index, _, value = item.partition(":")
                    indices.append(int(index))
                    values.append(float(value))
                    if indices[-1] < 0:
                        raise ValueError(item)
            except (ValueError, OverflowError) as error:
                raise UserError(
                    f"Failed to load libsvm data of channel {channel.name} ({path.name}, line {number}): {error}."
                    " Every line needs a label and index:value pairs; CSV needs the ContentType text/csv"
                ) from error
            ends.append(len(indices))
    if not labels:
        return _nothing("sparse")
    for what, told in (("weight", weights), ("qid", groups)):
        if told and len(told) != len(labels):
            raise UserError(f"Channel {channel.name}: {len(told)} of {len(labels)} lines have a {what}; all or none must")
    found = np.asarray(indices)
    shape = (len(labels), int(found.max(initial=0)) + 1)
    features = csr_matrix((np.asarray(values), found, np.asarray(ends)), shape=shape)
    return Records(
        "sparse",
        features,
        np.asarray(labels),
        np.asarray(weights) if weights else None,
        np.asarray(groups) if groups else None,
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without comments and empty ones."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            content = line.split("#", 1)[0].strip()
            if content:
                yield number, content


def _check_labels(channel: Channel, labels: Any, low: float, high: float) -> None:
    missing = int(np.count_nonzero(~np.isfinite(labels)))
    if missing:
        raise UserError(f"Channel {channel.name}: {missing} rows have no label, or one that is no finite number")
    wrong = labels[(labels < low) | (labels > high)]
    if wrong.size:
        raise UserError(
            f"Channel {channel.name}: label must be in [{low}, {high}] for this objective, but {wrong[0]} was found"
        )


def _nothing(kind: str) -> Records:
    return Records(kind, np.empty((0, 0), np.float32), np.empty(0, np.float32))
