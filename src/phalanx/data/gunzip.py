"""Gzip data of S3 objects, unpacked in pieces of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from phalanx.data.objects import DataError
from phalanx.data.sources import WHAT

_PIECE = 1 << 20


def unpacked(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The content of gzip data (RFC 1952, any number of members), in pieces of bounded size. Raises DataError."""
    unpack = None
    try:
        for chunk in chunks:
            while chunk:
                if unpack is None or unpack.eof:
                    unpack = zlib.decompressobj(wbits=31)
                yield unpack.decompress(chunk, _PIECE)
                chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    except zlib.error as error:
        raise DataError(f'ClientError: {WHAT}:"{key}" is not gzip data, but its channel has CompressionType Gzip') from error
    if unpack is not None and not unpack.eof:
        raise DataError(f'ClientError: {WHAT}:"{key}" is not complete gzip data')
