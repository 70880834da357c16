"""What a script's `input_fn` makes DMatrices with. Phalanx serves no models: it is here for scripts that train as well."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from .data_utils import CSV, LIBSVM, UserError, get_content_type, get_dmatrix


def csv_to_dmatrix(input: str | bytes, dtype: Any = None) -> xgboost.DMatrix:
    """Rows of features, without labels."""
    text = input.decode() if isinstance(input, bytes) else input
    lines = text.split("\n")
    try:
        delimiter = csv.Sniffer().sniff(lines[0][:512], ",;\t| ").delimiter
    except csv.Error:
        delimiter = ","
    rows = [["nan" if item == "" else item for item in line.split(delimiter)] for line in lines]
    return xgboost.DMatrix(np.array(rows).astype(dtype or float))


def libsvm_to_dmatrix(string_like: bytes) -> xgboost.DMatrix | None:
    """Rows of a label and features."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows"
        file.write_bytes(string_like)
        return get_dmatrix(str(file), LIBSVM)


def json_to_jsonlines(json_data: str | Mapping[str, Any]) -> bytes:
    """The values of the only member, each as JSON in a line. Raises ValueError."""
    given = json.loads(json_data) if isinstance(json_data, str) else json_data
    if len(given) != 1:
        raise ValueError("JSON response is not compatible for conversion to jsonlines.")
    return b"".join(json.dumps(entry).encode() + b"\n" for value in given.values() for entry in value)


def decode(obj: Any, content_type: str) -> xgboost.DMatrix | None:
    """What a request holds, by its content type, CSV or libsvm. Raises UserError for another."""
    kind = get_content_type(content_type)
    if kind == CSV:
        return csv_to_dmatrix(obj)
    if kind == LIBSVM:
        return libsvm_to_dmatrix(obj)
    raise UserError(f"{content_type} is not an accepted ContentType of a request: text/csv, text/libsvm")
