"""What is made of the shapes of a service's model: a parser, a serializer or a validator for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from botocore.model import ListShape, MapShape, Shape, StructureShape

Made = TypeVar("Made")

INTEGER_BITS = {"integer": 31, "long": 63}
"""Bits of a number besides its sign, by the type of its shape."""

_UNSPOKEN = {"flattened", "location", "payload", "streaming", "timestampFormat", "eventstream", "xmlAttribute"}
"""Traits that no served model has and this room does not speak. A jsonvalue outside of a header is an ordinary string (Smithy:
mediaType application/json)."""


class Shapes(ABC, Generic[Made]):
    """One thing for each shape, made once, when the application is built. Structures, lists and maps are kept in `_made` before
    what is in them is made: shapes may be recursive."""

    def __init__(self) -> None:
        self._made: dict[str, Made] = {}

    def of(self, shape: Shape) -> Made:
        """What is made of a shape. Raises NotImplementedError for one with a trait that is not spoken."""
        if shape.name not in self._made:
            if unspoken := _UNSPOKEN.intersection(shape.serialization):
                raise NotImplementedError(f"shape {shape.name} has {', '.join(sorted(unspoken))}")
            self._made[shape.name] = self._make(shape)
        return self._made[shape.name]

    def _make(self, shape: Shape) -> Made:
        if isinstance(shape, StructureShape):
            return self._structure(shape)
        if isinstance(shape, ListShape):
            return self._list(shape)
        if isinstance(shape, MapShape):
            return self._map(shape)
        return self._scalar(shape)

    @abstractmethod
    def _structure(self, shape: StructureShape) -> Made: ...

    @abstractmethod
    def _list(self, shape: ListShape) -> Made: ...

    @abstractmethod
    def _map(self, shape: MapShape) -> Made: ...

    @abstractmethod
    def _scalar(self, shape: Shape) -> Made: ...
