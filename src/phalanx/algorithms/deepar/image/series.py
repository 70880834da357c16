"""Time series: the files of a channel, as JSON Lines (plain or gzip) or Parquet."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pyarrow.parquet as parquet  # type: ignore[import-untyped]
from contract import Channel, UserError
from hyperparameters import Hyperparameters

_CONTENT_TYPES = {
    "json": ".json",
    "jsonlines": ".json",
    "application/json": ".json",
    "application/jsonlines": ".json",
    "json.gz": ".json.gz",
    "application/x-parquet": ".parquet",
    "parquet": ".parquet",
    "auto": None,
}


@dataclass(frozen=True)
class Series:
    """One series: `target` (points,), NaN where a value is missing; `cat` (features,); `dynamic` (features, points)."""

    start: Any
    target: Any
    cat: tuple[int, ...]
    dynamic: Any

    def entry(self, points: int | None = None) -> dict[str, Any]:
        """As GluonTS takes it, with the target's first `points` alone."""
        made = {"start": self.start, "target": self.target[:points]}
        if self.cat:
            made["feat_static_cat"] = list(self.cat)
        if len(self.dynamic):
            made["feat_dynamic_real"] = self.dynamic
        return made


def load(channel: Channel, parameters: Hyperparameters) -> list[Series]:
    """All series of the channel's files on this host, maybe none. Raises UserError, naming file and line."""
    if channel.piped:
        raise UserError(f"Channel {channel.name}: DeepAR reads files; use input mode File or FastFile")
    kind, _ = channel.media_type("auto")
    if kind not in _CONTENT_TYPES:
        raise UserError(f"{channel.content_type} is not an accepted ContentType: {', '.join(_CONTENT_TYPES)}")
    found: list[Series] = []
    for path in channel.files():
        suffix = _CONTENT_TYPES[kind] or next((end for end in (".json", ".json.gz", ".parquet") if path.name.endswith(end)), "")
        if not suffix:
            raise UserError(
                f"Channel {channel.name}: {path.name} ends with none of .json, .json.gz and .parquet;"
                " give the channel a ContentType"
            )
        before = len(found)
        try:
            for record in _parquet(path) if suffix == ".parquet" else _lines(path):
                found.append(_series(record, parameters))
        except (ValueError, TypeError, KeyError, OverflowError, OSError, EOFError, zlib.error) as error:
            reason = f"it has no field {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"Failed to load the series of channel {channel.name} ({path.name}, record {len(found) - before + 1}): {reason}"
            ) from error
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("every line must be a JSON object")
                yield record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _series(record: dict[str, Any], parameters: Hyperparameters) -> Series:
    """Raises ValueError, TypeError, OverflowError or KeyError."""
    start = pd.NaT if isinstance(record["start"], int | float) else pd.Timestamp(record["start"])
    if start is pd.NaT or start.tzinfo is not None:
        raise ValueError(f"start must be a date and time without a time zone, YYYY-MM-DD HH:MM:SS, not {record['start']}")
    target = _numbers(record["target"], "target")
    cat = record.get("cat")
    if cat is None or parameters.cardinality == "ignore":
        cat = []
    cat = tuple(cat if isinstance(cat, list) else [cat])
    if not all(isinstance(value, int) and value >= 0 for value in cat):
        raise ValueError(f"cat must be whole numbers from 0 on, not {record['cat']}")
    rows = record.get("dynamic_feat")
    if rows is None or parameters.num_dynamic_feat == "ignore":
        rows = []
    dynamic = [_numbers(row, "dynamic_feat") for row in rows]
    for row in dynamic:
        if len(row) != len(target):
            raise ValueError(f"dynamic_feat has {len(row)} values, the target {len(target)}")
        if np.isnan(row).any():
            raise ValueError("dynamic_feat has missing values")
    return Series(
        pd.Period(start, freq=parameters.time_freq), target, cat, np.stack(dynamic) if dynamic else np.empty((0, len(target)))
    )


def _numbers(given: Any, what: str) -> Any:
    if not isinstance(given, list):
        raise ValueError(f"{what} must be an array of numbers")
    values = np.array([np.nan if value is None else float(value) for value in given], dtype=np.float32)
    if np.isinf(values).any():
        raise ValueError(f"{what} has infinite values")
    return values
