"""The declarative base of all tables, and the clock they share."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

Json = dict[str, Any]
DAY_MS = 86_400_000
"""Milliseconds of a day."""
TEXT = String().with_variant(String(collation="C"), "postgresql")
"""Texts sort, and compare, by their code points, whatever the database's language: pages go on where the last one ended."""


class Base(DeclarativeBase):
    """Base of every table. Times are integers: milliseconds since the epoch, UTC."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        Json: JSON(none_as_null=True),
        int: BigInteger().with_variant(Integer, "sqlite"),
        str: TEXT,
    }


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
