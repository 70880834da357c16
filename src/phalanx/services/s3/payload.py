"""The body of a request to S3, held against what its headers state of it while it passes.

"Signature calculations for the Authorization header: transferring payload in a single chunk", "… in multiple chunks" and "…
with trailing headers" in the Amazon S3 API reference. What passes is not verified before the end: `Payload.finish` says so, and
until then the last piece has to be held back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from awscrt import checksums

from phalanx.wire import sigv4
from phalanx.wire.errors import AwsError
from phalanx.wire.sigv4 import Claim

UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNED_CHUNKS = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
_TRAILERS = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})(?:;chunk-signature=([0-9a-f]{64}))?")
_EMPTY = hashlib.sha256(b"").hexdigest()
_LONGEST_LINE = 1024
_PREFIX = "x-amz-checksum-"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A checksum of so many bytes, computed by a function of data and what was computed before."""

    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


_ALGORITHMS: dict[str, Callable[[], _Digest]] = {
    "crc32": lambda: _Crc(zlib.crc32, 4),
    "crc32c": lambda: _Crc(checksums.crc32c, 4),
    "crc64nvme": lambda: _Crc(checksums.crc64nvme, 8),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}


def stated(headers: Mapping[str, bytes], presigned: bool, parameter: str | None = None) -> str:
    """What a request states of its body, as it is signed. A presigned one says so in its query (`parameter`), if at all.

    Raises AwsError.
    """
    header = headers.get("x-amz-content-sha256")
    text = header.decode("latin-1") if header is not None else parameter if presigned else None
    if text is None:
        if presigned:
            return UNSIGNED
        raise AwsError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if text in (UNSIGNED, *_SIGNED_CHUNKS, *_TRAILERS) or _SHA256.fullmatch(text):
        return text
    raise AwsError("InvalidArgument", f"x-amz-content-sha256 must be {UNSIGNED}, STREAMING-…, or a valid sha256 value.")


class Payload:
    """A body as it passes. `length` is that of its content, in bytes."""

    def __init__(self, headers: Mapping[str, bytes], stated: str, claim: Claim, secret: str) -> None:
        """`headers`, names in lower case, have been verified with the rest of the request. Raises AwsError."""
        self._whole = hashlib.sha256() if _SHA256.fullmatch(stated) else None
        self._stated = stated
        self._chunks = _Chunks(claim, secret, stated) if stated in (*_SIGNED_CHUNKS, *_TRAILERS) else None
        name = "content-length" if self._chunks is None else "x-amz-decoded-content-length"
        length = headers.get(name, b"0" if self._chunks is None and "transfer-encoding" not in headers else b"")
        if not re.fullmatch(rb"[0-9]{1,15}", length):
            raise AwsError("MissingContentLength", f"You must provide the {name} HTTP header.", 411)
        self.length = int(length)
        self._passed = 0
        self._checksums: dict[str, tuple[_Digest, str | None]] = {}
        for header, value in headers.items():
            if header.startswith(_PREFIX) and header.removeprefix(_PREFIX) not in ("algorithm", "mode", "type"):
                self._checksums[header] = (_digest(header), value.decode("latin-1"))
        trailers = [name.strip().lower() for name in headers.get("x-amz-trailer", b"").decode("latin-1").split(",")]
        for trailer in filter(None, trailers):
            if stated not in _TRAILERS:
                raise AwsError("InvalidRequest", "x-amz-trailer needs a payload that has trailers.")
            self._checksums[trailer] = (_digest(trailer), None)

    def feed(self, data: bytes) -> list[bytes]:
        """The content of what came of the body next. Raises AwsError."""
        pieces = [data] if self._chunks is None else self._chunks.feed(data)
        for piece in pieces:
            self._passed += len(piece)
            if self._passed > self.length:
                raise _incomplete()
            if self._whole is not None:
                self._whole.update(piece)
            for digest, _ in self._checksums.values():
                digest.update(piece)
        return pieces

    def finish(self) -> dict[str, str]:
        """The body has ended: the checksums that were stated and are right, by their headers. Raises AwsError."""
        trailers: dict[str, str] = {}
        if self._chunks is not None:
            trailers = self._chunks.finish()
        if self._passed != self.length:
            raise _incomplete()
        if self._whole is not None and not hmac.compare_digest(self._whole.hexdigest(), self._stated):
            raise AwsError(
                "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        if set(trailers) != {name for name, (_, value) in self._checksums.items() if value is None}:
            raise AwsError(
                "MalformedTrailerError", "The request contained trailing data that was not announced, or lacks some."
            )
        found = {}
        for name, (digest, value) in self._checksums.items():
            text = trailers[name] if value is None else value
            try:
                right = hmac.compare_digest(base64.b64decode(text, validate=True), digest.digest())
            except (binascii.Error, ValueError):
                right = False
            if not right:
                algorithm = name.removeprefix(_PREFIX).upper()
                raise AwsError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
            found[name] = text
        return found


def _digest(header: str) -> _Digest:
    make = _ALGORITHMS.get(header.removeprefix(_PREFIX)) if header.startswith(_PREFIX) else None
    if make is None:
        known = ", ".join(name.upper() for name in _ALGORITHMS)
        raise AwsError("InvalidRequest", f"{header[:64]} cannot be verified here. Use one of {known}.")
    return make()


def _incomplete() -> AwsError:
    return AwsError("IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")


class _Chunks:
    """The framing `aws-chunked`: a line with a chunk's size, and its signature where they are signed; the chunk; and an empty
    line. The last chunk is empty, trailers follow it. Each signature goes into the next."""

    def __init__(self, claim: Claim, secret: str, stated: str) -> None:
        self._key: bytes | None = None
        if stated in _SIGNED_CHUNKS:
            self._key = sigv4.signing_key(secret, claim.date, claim.region, claim.service)
        self._with_trailers = stated in _TRAILERS
        self._claim = claim
        self._previous = claim.signature
        self._signature = ""
        self._expects = "size"
        self._line = b""
        self._left = 0
        self._hash = hashlib.sha256()
        self._trailers: dict[str, str] = {}
        self._trailer_signature: str | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The content that is in the next bytes. Raises AwsError."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            if self._expects == "data":
                piece = data[at : at + self._left]
                if self._key is not None:
                    self._hash.update(piece)
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._expects = "end of data"
                continue
            end = data.find(b"\n", at, at + _LONGEST_LINE)
            self._line += data[at : end + 1 if end >= 0 else at + _LONGEST_LINE]
            if len(self._line) > _LONGEST_LINE or (end < 0 and len(data) - at > _LONGEST_LINE):
                raise _malformed()
            if end < 0:
                break
            at = end + 1
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise _malformed()
            self._take(line[:-2])
        return pieces

    def finish(self) -> dict[str, str]:
        """The trailers, by their names. Raises AwsError where the body is not at its end."""
        if self._expects != "nothing":
            raise _incomplete()
        return self._trailers

    def _take(self, line: bytes) -> None:
        if self._expects == "size":
            found = _SIZE.fullmatch(line)
            if found is None or (found[2] is None) != (self._key is None):
                raise _malformed()
            self._signature = (found[2] or b"").decode()
            self._left = int(found[1], 16)
            self._hash = hashlib.sha256()
            self._expects = "data" if self._left else "trailers"
            if not self._left:
                self._check_chunk()
        elif self._expects == "end of data":
            if line:
                raise _malformed()
            self._check_chunk()
            self._expects = "size"
        elif self._expects == "trailers":
            if line:
                self._take_trailer(line)
            else:
                self._check_trailers()
                self._expects = "nothing"
        else:
            raise _malformed()

    def _take_trailer(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or name in self._trailers or not self._with_trailers:
            raise _malformed()
        if name == "x-amz-trailer-signature":
            self._trailer_signature = value
        else:
            self._trailers[name] = value
        if len(self._trailers) > len(_ALGORITHMS):
            raise _malformed()

    def _check_chunk(self) -> None:
        if self._key is not None:
            self._check("PAYLOAD", f"{_EMPTY}\n{self._hash.hexdigest()}", self._signature)

    def _check_trailers(self) -> None:
        if self._key is not None and self._with_trailers:
            content = "".join(f"{name}:{value}\n" for name, value in self._trailers.items())
            self._check("TRAILER", hashlib.sha256(content.encode("latin-1")).hexdigest(), self._trailer_signature or "")
        elif self._trailer_signature is not None:
            raise _malformed()

    def _check(self, kind: str, content: str, given: str) -> None:
        assert self._key is not None  # noqa: S101
        claim = self._claim
        text = f"{sigv4.ALGORITHM}-{kind}\n{claim.timestamp}\n{claim.scope}\n{self._previous}\n{content}"
        expected = hmac.new(self._key, text.encode("latin-1"), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), given.encode("latin-1")):
            raise AwsError(
                "SignatureDoesNotMatch",
                "The chunk signature we calculated does not match the signature you provided.",
                403,
            )
        self._previous = expected


def _malformed() -> AwsError:
    return AwsError("InvalidRequest", "The body is not in the framing that x-amz-content-sha256 names.")
