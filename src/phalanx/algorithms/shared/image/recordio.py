"""Records in RecordIO frames, each a protobuf message `aialgs.data.Record`: what SageMaker's SDK writes for its algorithms."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from contract import UserError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

_MAGIC = 0xCED7230A
_WHOLE, _FIRST, _LAST = 0, 1, 3
"""The kinds of frame in the three high bits of a length: a record that contains the magic number is split there."""
_LAST_FEATURE = 2**31 - 2
_TENSORS = {"Float32Tensor": (2, "TYPE_FLOAT"), "Float64Tensor": (3, "TYPE_DOUBLE"), "Int32Tensor": (7, "TYPE_INT32")}


def load(name: str, paths: Iterable[Path]) -> tuple[Any, Any]:
    """Features and labels of the records in all files of channel `name`: (rows, columns), dense or CSR, and (rows,).

    Raises UserError, naming file and record.
    """
    labels: list[float] = []
    values: list[Any] = []
    keys: list[Any] = []
    shapes: list[int] = []
    for path in paths:
        before = len(labels)
        try:
            with path.open("rb") as file:
                for frame in _frames(file):
                    record = _Record.FromString(frame)
                    tensor, label = _tensor(record.features["values"]), _tensor(record.label["values"])
                    if not len(label.values):
                        raise ValueError("it has no label")
                    keys.append(_indices(tensor.keys) if tensor.keys else None)
                    shapes.append(int(_indices(tensor.shape[:1])[0]) if tensor.shape else 0)
                    values.append(np.asarray(tensor.values, np.float32))
                    labels.append(label.values[0])
        except (ValueError, DecodeError) as error:
            place = f"{path.name}, record {len(labels) - before + 1}"
            raise UserError(
                f"Failed to load recordio-protobuf data of channel {name} ({place}): {error}."
                " CSV needs the ContentType text/csv"
            ) from error
    return _matrix(name, values, keys, shapes), np.asarray(labels, np.float32)


def _matrix(name: str, values: Sequence[Any], keys: Sequence[Any], shapes: Sequence[int]) -> Any:
    if not values:
        return np.empty((0, 0), np.float32)
    if all(each is None for each in keys):
        sizes = {len(row) for row in values}
        if len(sizes) > 1:
            raise UserError(f"Feature size mismatch in channel {name}: records have {min(sizes)} to {max(sizes)} features")
        return np.stack(values)
    places = [np.arange(len(row)) if key is None else key for row, key in zip(values, keys, strict=True)]
    if any(len(place) != len(row) for place, row in zip(places, values, strict=True)):
        raise UserError(f"Channel {name}: a sparse record has not as many keys as values")
    ends = np.cumsum([0, *map(len, values)])
    width = max(max(shapes), max(int(place.max(initial=-1)) + 1 for place in places))
    return csr_matrix((np.concatenate(values), np.concatenate(places), ends), shape=(len(values), width))


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Records as they were before they were framed. Raises ValueError where the file is none of this kind, or is cut off."""
    parts: list[bytes] = []
    while head := file.read(8):
        if len(head) < 8 or struct.unpack_from("<I", head)[0] != _MAGIC:
            raise ValueError("this is no RecordIO frame")
        (word,) = struct.unpack_from("<I", head, 4)
        kind, length = word >> 29, word & 0x1FFFFFFF
        body = file.read(length + -length % 4)
        if len(body) < length:
            raise ValueError("the file is cut off")
        if kind not in (_WHOLE, _FIRST):
            parts.append(struct.pack("<I", _MAGIC))
        parts.append(body[:length])
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts.clear()
    if parts:
        raise ValueError("the file is cut off")


def _tensor(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        raise ValueError('it has no tensor "values"')
    return getattr(value, kind)


def _indices(numbers: Sequence[int]) -> Any:
    """Numbers of features. Raises ValueError for one that no matrix has: of 2^63 and more, libraries would make addresses
    before the matrix."""
    found = np.asarray(numbers, np.uint64)
    if found.max() > _LAST_FEATURE:
        raise ValueError(f"it has a feature {found.max()}, and {_LAST_FEATURE} is the last that there can be")
    return found.astype(np.int64)


def _record_class() -> Any:
    """The message's class, from its definition: SageMaker's record.proto."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")

    def message(name: str, parent: Any = None) -> Any:
        made = (parent.nested_type if parent else file.message_type).add()
        made.name = name
        return made

    def field(owner: Any, name: str, number: int, kind: str, repeated: bool = False) -> Any:
        made = owner.field.add(name=name, number=number)
        made.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        if kind.startswith("TYPE_"):
            made.type = kinds.Type.Value(kind)
        else:
            made.type, made.type_name = kinds.TYPE_MESSAGE, f".aialgs.data.{kind}"
        return made

    value = message("Value")
    value.oneof_decl.add(name="value")
    for tensor, (number, kind) in _TENSORS.items():
        made = message(tensor)
        for position, (part, type_) in enumerate((("values", kind), ("keys", "TYPE_UINT64"), ("shape", "TYPE_UINT64")), 1):
            field(made, part, position, type_, repeated=True).options.packed = True
        field(value, f"{tensor[:-6].lower()}_tensor", number, tensor).oneof_index = 0
    record = message("Record")
    for number, part in enumerate(("features", "label"), 1):
        entry = message(f"{part.capitalize()}Entry", record)
        entry.options.map_entry = True
        field(entry, "key", 1, "TYPE_STRING")
        field(entry, "value", 2, "Value")
        field(record, part, number, f"Record.{entry.name}", repeated=True)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))


_Record = _record_class()
