"""A channel as a DMatrix."""

from __future__ import annotations

import csv
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import xgboost

CSV, LIBSVM, PARQUET = "csv", "libsvm", "parquet"

_TYPES = {
    "application/x-parquet": PARQUET,
    "csv": CSV,
    "libsvm": LIBSVM,
    "parquet": PARQUET,
    "text/csv": CSV,
    "text/libsvm": LIBSVM,
    "text/x-libsvm": LIBSVM,
}


class UserError(Exception):
    """The data, or what is said of it, cannot be used."""


def get_content_type(content_type_cfg_val: str | None) -> str:
    """`csv`, `libsvm` or `parquet`, by a channel's content type; libsvm without one. Raises UserError."""
    kind = (content_type_cfg_val or LIBSVM).split(";")[0].strip().lower()
    if kind not in _TYPES:
        raise UserError(f"{content_type_cfg_val} is not an accepted ContentType for scripts: {', '.join(_TYPES)}")
    return _TYPES[kind]


def get_size(data_path: str, is_pipe: bool = False) -> int:
    """Bytes of a file, or of all files in a directory; of a pipe, 1."""
    if is_pipe and Path(f"{data_path}_0").exists():
        return 1
    return sum(path.stat().st_size for path in _files(data_path))


def get_dmatrix(
    data_path: str | list[str], content_type: str | None, csv_weights: int = 0, is_pipe: bool = False
) -> xgboost.DMatrix | None:
    """The rows of a file, or of all files in a directory or several, the label first; None where there are none.

    `csv_weights`: 1 where the second column has the rows' weights. Raises UserError.
    """
    kind = get_content_type(content_type)
    if is_pipe:
        raise UserError("A script reads a pipe by itself: give the channel the input mode File or FastFile for get_dmatrix")
    paths = data_path if isinstance(data_path, list) else [data_path]
    files = [file for path in paths for file in _files(path) if file.stat().st_size]
    if not files:
        return None
    try:
        return _parquet(files) if kind == PARQUET else _text(files, kind, bool(csv_weights))
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"Failed to load {kind} data: {error}") from error


def _files(path: str) -> Iterator[Path]:
    """Without hidden files and markers such as _SUCCESS."""
    place = Path(path)
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    return (file for file in found if file.is_file() and not file.name.startswith((".", "_")))


def _parquet(files: list[Path]) -> xgboost.DMatrix:
    import pandas

    table = pandas.concat([pandas.read_parquet(file) for file in files]).to_numpy("float32")
    return xgboost.DMatrix(table[:, 1:], label=table[:, 0])


def _text(files: list[Path], kind: str, weighted: bool) -> xgboost.DMatrix:
    options = "format=libsvm"
    if kind == CSV:
        with files[0].open(errors="replace") as opened:
            delimiter = csv.Sniffer().sniff(opened.readline(), ",;\t| ").delimiter
        options = f"format=csv&label_column=0&delimiter={delimiter}"
        options += "&weight_column=1" if weighted else ""
    # XGBoost reads what is in one directory.
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        # It would rather not read text itself.
        warnings.filterwarnings("ignore", message=".*Text file input", category=UserWarning)
        for number, file in enumerate(files):
            os.symlink(file.absolute(), Path(directory) / f"{number:06d}")
        return xgboost.DMatrix(f"{directory}?{options}")
