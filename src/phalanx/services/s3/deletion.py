"""The documents of DeleteObjects: which keys are to be deleted, and how that went for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phalanx.services.s3.document import MALFORMED, compose, elements, local, root
from phalanx.wire.errors import AwsError

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Deletion:
    """Keys to delete, in their order; `quiet` where only failures are told."""

    keys: tuple[str, ...]
    quiet: bool


def read(document: bytes) -> Deletion:
    """What a request deletes. Raises AwsError."""
    top = root(document)
    if top is None or local(top) != "Delete":
        raise MALFORMED
    keys, quiet = [], False
    for child in top:
        if local(child) == "Quiet":
            quiet = (child.text or "").strip().lower() == "true"
        elif local(child) == "Object":
            members = {local(each): each.text or "" for each in child}
            if conditions := members.keys() & {"ETag", "LastModifiedTime", "Size"}:
                raise AwsError(
                    "NotImplemented",
                    f"{min(conditions)} of DeleteObjects is not implemented here, so nothing is done."
                    " Delete an object on a condition by DeleteObject with IfMatch.",
                    501,
                )
            if set(members) - {"Key", "VersionId"} or not members.get("Key"):
                raise MALFORMED
            if members.get("VersionId", "null") != "null":
                raise AwsError("NoSuchVersion", "Objects have no versions here.", 404)
            keys.append(members["Key"])
        else:
            raise MALFORMED
    if not 1 <= len(keys) <= _MOST:
        raise MALFORMED
    return Deletion(tuple(dict.fromkeys(keys)), quiet)


def write(keys: Iterable[str]) -> bytes:
    """The request for those keys."""
    return compose("Delete", "".join(f"<Object>{elements({'Key': key})}</Object>" for key in keys))


def failures(document: bytes) -> dict[str, tuple[str, str]] | None:
    """Which keys the server could not delete, with code and message; None where the document does not say."""
    top = root(document)
    if top is None or local(top) != "DeleteResult":
        return None
    found = {}
    for child in top:
        if local(child) == "Error":
            members = {local(each): each.text or "" for each in child}
            found[members.get("Key", "")] = (members.get("Code", "InternalError"), members.get("Message", ""))
    return found


def answer(deletion: Deletion, failed: Mapping[str, tuple[str, str]]) -> bytes:
    """How it went: all is deleted that has not failed."""
    out = []
    for key in deletion.keys:
        if key in failed:
            code, message = failed[key]
            out.append(f"<Error>{elements({'Key': key, 'Code': code, 'Message': message})}</Error>")
        elif not deletion.quiet:
            out.append(f"<Deleted>{elements({'Key': key})}</Deleted>")
    return compose("DeleteResult", "".join(out))
