"""Random members of a shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from hypothesis import strategies as st

SIZES = {"integer": 31, "long": 63}
DEPTH = 5

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
# 32-bit floats are what every number survives as that the models call float.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def members(shape: Shape, *, least: int = 0, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of `shape`; structures, lists and maps have at least `least` entries (query protocols cannot say "empty")."""
    if isinstance(shape, StructureShape):
        return _structure(shape, least, depth)
    if isinstance(shape, ListShape):
        return st.lists(members(shape.member, least=least, depth=depth + 1), min_size=least, max_size=2)
    if isinstance(shape, MapShape):
        values = members(shape.value, least=least, depth=depth + 1)
        return st.dictionaries(TEXT, values, min_size=least, max_size=2)
    if shape.type_name in SIZES:
        bound = 1 << SIZES[shape.type_name]
        return st.integers(-bound, bound - 1)
    return {
        "string": TEXT,
        "boolean": st.booleans(),
        "float": NUMBERS,
        "double": NUMBERS,
        "timestamp": TIMES,
        "blob": st.binary(max_size=12),
    }[shape.type_name]


def _structure(shape: StructureShape, least: int, depth: int) -> st.SearchStrategy[Any]:
    names = sorted(shape.members)
    if depth >= DEPTH:
        shallow = [name for name in names if not isinstance(shape.members[name], StructureShape | ListShape | MapShape)]
        names = shallow or names[:1]
    if not names:
        return st.just({})
    low, high = (1, 1) if shape.is_tagged_union else (least, min(4, len(names)))

    def values(chosen: list[str]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries({name: members(shape.members[name], least=least, depth=depth + 1) for name in chosen})

    return st.lists(st.sampled_from(names), min_size=low, max_size=high, unique=True).flatmap(values)
