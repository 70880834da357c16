"""A channel of rows, the label first, as XGBoost and the linear learner take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from contract import Channel, UserError


def kind(channel: Channel, otherwise: str, accepted: Mapping[str, str]) -> str:
    """What `accepted` says of the channel's content type, or of `otherwise` where it has none. Raises UserError."""
    found, options = channel.media_type(otherwise)
    if found not in accepted:
        raise UserError(f"{channel.content_type} is not an accepted ContentType: {', '.join(sorted(accepted))}")
    if options.get("label_size", "1") != "1":
        raise UserError(f"{channel.content_type} is not an accepted ContentType: label_size must be 1")
    return accepted[found]


def load(channel: Channel, read: Callable[[Path], Any]) -> Any:
    """The rows of all files, each of which `read` makes a table of, or None where it has no rows; None where none has.

    Raises UserError where files differ in their columns.
    """
    tables: list[Any] = []
    for path in channel.files():
        table = read(path)
        if table is None:
            continue
        if tables and table.shape[1] != tables[0].shape[1]:
            raise UserError(
                f"Feature size mismatch in channel {channel.name}: {path.name} has {table.shape[1]} columns,"
                f" an earlier file {tables[0].shape[1]}"
            )
        tables.append(table)
    if not tables:
        return None
    return np.concatenate(tables) if len(tables) > 1 else tables[0]
