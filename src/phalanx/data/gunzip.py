"""Gzip data of S3 objects, unpacked in pieces of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from phalanx.data.objects import DataError
from phalanx.data.sources import WHAT

_PIECE = 1 << 20


def unpacked(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The content of gzip data (RFC 1952, any number of members), in pieces of bounded size. Raises DataError."""
    unpack, started = _gzip(), False
    try:
        for chunk in chunks:
            while chunk:
                if unpack.eof:
                    unpack, started = _gzip(), False
                started = True
                yield unpack.decompress(chunk, _PIECE)
                chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    except zlib.error as error:
        raise DataError(f'ClientError: {WHAT}:"{key}" is not gzip data, but its channel has CompressionType Gzip') from error
    if started and not unpack.eof:
        raise DataError(f'ClientError: {WHAT}:"{key}" is not complete gzip data')


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)
