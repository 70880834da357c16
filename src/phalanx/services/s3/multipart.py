"""Completing a multipart upload: the parts that a client names are held against those that are there.

The server forgets an upload whose completion it refuses, where S3 keeps it. So it is only asked for what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.services.s3.document import MALFORMED, compose, elements, local, root
from phalanx.wire.errors import AwsError


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was uploaded; `size` in bytes."""

    etag: str
    size: int


def read(document: bytes) -> dict[int, str]:
    """The parts that a CompleteMultipartUpload names, in its order: the ETag by the number. Raises AwsError."""
    top = root(document)
    if top is None or local(top) != "CompleteMultipartUpload":
        raise MALFORMED
    named: dict[int, str] = {}
    for part in top:
        members = {local(each): (each.text or "").strip() for each in part}
        number = members.get("PartNumber", "")
        if local(part) != "Part" or "ETag" not in members or not _is_number(number):
            raise MALFORMED
        if named and int(number) <= max(named):
            raise AwsError(
                "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."
            )
        named[int(number)] = members["ETag"].strip('"')
    if not named:
        # The server would make an object of no parts, in place of what is there.
        raise MALFORMED
    return named


def write(named: Mapping[int, str]) -> bytes:
    """The request for those parts."""
    parts = (elements({"PartNumber": str(number), "ETag": etag}) for number, etag in named.items())
    return compose("CompleteMultipartUpload", "".join(f"<Part>{part}</Part>" for part in parts))


def listed(answer: bytes) -> tuple[dict[int, Part], str | None]:
    """The parts that an answer to ListParts tells of, by their numbers, and where the next answer goes on, if there is one."""
    top = root(answer)
    there: dict[int, Part] = {}
    told: dict[str, str] = {}
    for child in () if top is None else top:
        if local(child) == "Part":
            members = {local(each): each.text or "" for each in child}
            there[int(members["PartNumber"])] = Part(members["ETag"].strip('"'), int(members["Size"]))
        else:
            told[local(child)] = child.text or ""
    return there, told.get("NextPartNumberMarker") if told.get("IsTruncated") == "true" else None


def check(named: Mapping[int, str], there: Mapping[int, Part], size: int | None) -> None:
    """See to it that the object can be made: of these parts, of `size` bytes if the client says so. Raises AwsError."""
    if any(number not in there or there[number].etag != etag for number, etag in named.items()):
        raise AwsError(
            "InvalidPart",
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified"
            " entity tag may not have matched the part's entity tag.",
        )
    if list(named) != list(range(1, len(there) + 1)):
        raise AwsError(
            "NotImplemented",
            "Parts are written one after the other here, so an upload is completed with all of its parts, numbered 1, 2, 3 …"
            " without a gap. Nothing is done: upload what lacks, or begin another upload.",
            501,
        )
    if size is not None and size != (total := sum(part.size for part in there.values())):
        raise AwsError(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {total}",
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
