"""The audit trail: a record of each request in CloudTrail's format, one JSON a line, each holding the hash of the line before.

See "CloudTrail record contents" in the CloudTrail user guide. The chain: `previous` is the SHA-256, in hex, of the line before
without its newline (64 zeros in the very first), `sequence` counts from 0 over all files. Whoever changes, removes or inserts a
line has to make all later ones anew; who has noted the last hash that `verify` told sees even that.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog

from phalanx.identity.actions import PREFIXES
from phalanx.identity.directory import Identity
from phalanx.wire.service import READING, Event

START = "0" * 64
FILE_BYTES = 256 << 20
"""A file that has grown beyond this is followed by a new one, named by the sequence number of its first record."""
SYNC_SECONDS = 1.0
"""How much of the trail a power failure may cost at most; a kill costs nothing."""
_WAITING = 1000
"""Records that wait in memory while they cannot be written; then nothing more is done that would need one."""
_TEXT = 1024
"""Longest text in requestParameters and responseElements, in characters; of longer ones the beginning is kept."""
_DEPTH = 32
"""Levels of requestParameters and responseElements that are kept. No request has a use for more, and none may be nested so that
there is no record of it."""
_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_SECRET = frozenset({"SecretAccessKey", "SessionToken", "Environment", "HyperParameters", "StaticHyperParameters"})
"""Members that are or may hold secrets."""
_VALUE = re.compile(r"Value '(?P<value>.*?)' at '(?P<path>[^']*)' failed to satisfy", re.DOTALL)
"""How messages repeat a value that was refused (wire.validator)."""

_JSON = json.JSONEncoder(separators=(",", ":"), default=str, allow_nan=False)

log = structlog.get_logger()


class Trail:
    """Appends records to the files of a directory."""

    def __init__(self, directory: Path, account: str) -> None:
        """Go on where the last record in `directory` is; it is made where it is missing. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._account = account
        self._lock = threading.Lock()
        self._sequence, self._previous, path = _end(directory)
        self._file = self._open(path or self._path())
        self._size = os.fstat(self._file).st_size
        self._synced = time.monotonic()
        self._waiting: list[dict[str, Any]] = []

    def ready(self) -> bool:
        """Whether the trail can be written: what waited is written first."""
        if not self._waiting:
            return True
        with self._lock:
            return self._write_waiting()

    def record(self, event: Event, who: Identity | None) -> None:
        """Append the record of a request."""
        content = _content(event, who, self._account, time.time())
        with self._lock:
            if len(self._waiting) < _WAITING:
                self._waiting.append(content)
            self._write_waiting()
        self._sync()

    def close(self) -> None:
        """Bring all to the disk and close the file."""
        with self._lock:
            self._write_waiting()
            os.fdatasync(self._file)
            os.close(self._file)

    def _path(self) -> Path:
        return self._directory / f"{self._sequence:012}.jsonl"

    def _open(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _write_waiting(self) -> bool:
        """Write what waits, in order; False where that fails."""
        while self._waiting:
            content = {**self._waiting[0], "sequence": self._sequence, "previous": self._previous}
            line = _JSON.encode(content).encode()
            try:
                if self._size > FILE_BYTES:
                    fresh = self._open(self._path())
                    os.close(self._file)
                    self._file, self._size = fresh, 0
                written = os.write(self._file, line + b"\n")
                if written < len(line) + 1:
                    # The disk is full: what half stands there is taken back, so that the next line begins a line.
                    os.ftruncate(self._file, self._size)
                    raise OSError("the disk is full")
            except OSError as error:
                log.error("the audit trail cannot be written", reason=str(error))
                return False
            self._size += written
            self._sequence += 1
            self._previous = hashlib.sha256(line).hexdigest()
            self._waiting.pop(0)
        return True

    def _sync(self) -> None:
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            self._synced = now
            try:
                os.fdatasync(self._file)
            except OSError as error:
                log.error("the audit trail cannot be brought to the disk", reason=str(error))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: how many records there are and the last one's hash, or what is wrong with which."""

    records: int
    last: str
    fault: str | None = None
    first: int = 0
    """The sequence number of the first record that is here; of those before nothing can be told."""


def verify(directory: Path, noted: tuple[int, str] | None = None) -> Verdict:
    """Follow the chain through all files of a trail. Raises OSError.

    `noted`: how many records there were, and the last one's hash, as an earlier check has found.
    """
    first, count, previous = 0, 0, START
    fault = None
    for path, number, line in _lines(directory):
        place = f"{path.name} line {number}"
        try:
            content = json.loads(line)
            found, sequence = content["previous"], content["sequence"]
        except (ValueError, KeyError, TypeError, RecursionError):
            fault = f"{place} is no record"
            break
        if type(sequence) is not int:
            fault = f"{place} is no record: its sequence is no number"
            break
        if count == 0 and sequence > 0 and path.name == f"{sequence:012}.jsonl" and number == 1:
            # Older files were moved away; what they ended with is what this one says.
            previous, first, count = found, sequence, sequence
        if found != previous or sequence != count:
            fault = f"{place} does not follow the record before: one was changed, removed or inserted"
            break
        if (fault := _unlike(noted, first, count, previous)) is not None:
            break
        count, previous = count + 1, hashlib.sha256(line).hexdigest()
    else:
        fault = _unlike(noted, first, count, previous)
        if noted is not None and count < noted[0]:
            fault = f"there were {noted[0]} records, and now there are {count}"
    return Verdict(count, previous, fault, first)


def _unlike(noted: tuple[int, str] | None, first: int, count: int, previous: str) -> str | None:
    """How a trail that begins with record `first`, and whose `count` records end with the hash `previous`, is not the one that
    was noted."""
    if noted is None:
        return None
    if first > noted[0]:
        return f"it begins with record {first}, and the noted record is not here: bring the older files back"
    if count == noted[0] and previous != noted[1]:
        return f"the {count} records that were noted did not end so: they were made anew"
    return None


def _files(directory: Path) -> list[Path]:
    # `glob` would take a directory that may not be read for an empty one.
    return sorted(path for path in directory.iterdir() if path.suffix == ".jsonl")


def _lines(directory: Path) -> Iterator[tuple[Path, int, bytes]]:
    for path in _files(directory):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield path, number, line.removesuffix(b"\n")


def _end(directory: Path) -> tuple[int, str, Path | None]:
    """The next sequence number, the hash of the last line, and the file that it is in. A line that a kill cut short was never
    acknowledged, and is taken back."""
    files = _files(directory)
    for path in reversed(files):
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (8 << 20)))
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            if len(whole) < len(tail):
                file.truncate(size - len(tail) + len(whole))
        if whole:
            line = whole[:-1].rpartition(b"\n")[2]
            try:
                return int(json.loads(line)["sequence"]) + 1, hashlib.sha256(line).hexdigest(), path
            except (ValueError, KeyError, TypeError):
                # Somebody changed it; `verify` will say so, and the new records go on from there.
                return len(whole.splitlines()), hashlib.sha256(line).hexdigest(), path
    return 0, START, files[0] if files else None


def _content(event: Event, who: Identity | None, account: str, now: float) -> dict[str, Any]:
    reads = event.operation.startswith(READING)
    prefix = PREFIXES.get(event.service, event.service)
    source = {"cloudwatch": "monitoring"}.get(prefix, prefix)
    content: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": _identity(event, who, account),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "eventSource": f"{source}.amazonaws.com",
        "eventName": event.operation,
        "awsRegion": event.region,
        "sourceIPAddress": event.client.address,
        "userAgent": event.client.user_agent[:_TEXT],
        "requestParameters": None if event.members is None else _shown(event.members),
        "responseElements": None if reads or not event.response else _shown(event.response),
        "requestID": event.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": reads,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    if event.error is not None:
        content["errorCode"], content["errorMessage"] = event.error[0], _VALUE.sub(_told, event.error[1])[:_TEXT]
    return content


def _told(found: re.Match[str]) -> str:
    """What a message says of a refused value: not the value, where it is of a member that may hold secrets or has one in it."""
    if any(_camel(name) in found["path"].split(".") or f"{name}=" in found["value"] for name in _SECRET):
        return f"Value '{_HIDDEN}' at '{found['path']}' failed to satisfy"
    return found[0]


def _identity(event: Event, who: Identity | None, account: str) -> dict[str, Any]:
    caller = event.caller
    if caller is None:
        return {"type": "Unknown", "accessKeyId": event.access_key[:128]}
    found: dict[str, Any] = {
        "type": "AssumedRole" if ":assumed-role/" in caller.arn else "IAMUser",
        "principalId": caller.user_id,
        "arn": caller.arn,
        "accountId": account,
        "accessKeyId": caller.access_key,
    }
    if who is not None and who.kind == "user":
        found["userName"] = who.name
    if who is not None and who.session and who.begun is not None:
        issuer = {"type": "Role", "principalId": who.owner_id, "arn": who.arn, "accountId": account, "userName": who.name}
        found["sessionContext"] = {
            "attributes": {"creationDate": who.begun.strftime("%Y-%m-%dT%H:%M:%SZ"), "mfaAuthenticated": "false"},
            **({"sessionIssuer": issuer} if who.kind == "role" else {}),
        }
    return found


def _shown(value: Any, depth: int = _DEPTH) -> Any:
    """A value as CloudTrail shows it: names in lower camel case, what an answer leaves out (None) left out, secrets hidden, at
    most `depth` levels."""
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        given = {name: item for name, item in value.items() if item is not None}
        return {_camel(name): _HIDDEN if name in _SECRET else _shown(item, depth - 1) for name, item in given.items()}
    if isinstance(value, list):
        return [_shown(item, depth - 1) for item in value]
    if isinstance(value, str):
        return value if len(value) <= _TEXT else value[:_TEXT] + "…"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no such numbers; the name is what AWS's JSON protocol has for one.
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@lru_cache(maxsize=4096)
def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]
