"""S3 as the platform uses it: a client, the objects under a URI, and what may go wrong."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as S3ConnectionError

from phalanx.data import envelope
from phalanx.data.model import DataKey, ObjectStore

PATIENCE = 60.0
"""Seconds for which a request is tried again while S3 cannot be reached or fails: as long as its server, and what that needs,
take to be started again, and more. A job is not to pay for that with an attempt."""
_CHUNK = 1 << 20
"""Bytes of an object that are read at a time."""
_ATTEMPTS = 4
"""How many times in a row nothing may come of a body."""
_PART = 16 << 20
_PARTS = 9_000
"""So many parts an object is made of at most; S3 takes 10,000, and encryption makes it a little longer."""


class DataError(Exception):
    """Data could not be moved. Its text is a FailureReason: `ClientError: …` (the user's) or `InternalServerError: …`."""


class Cancelled(Exception):
    """The caller asked to end it; what was done so far is not all."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object of a listing: its key, and its size in bytes."""

    key: str
    size: int


def client(
    store: ObjectStore, *, connections: int = 10, attempts: int = 5, timeout: float = 60, patience: float | None = None
) -> Any:
    """The boto3 S3 client for the store. `timeout` is for each read, in seconds; `attempts` includes the first, and does not
    count those that are made for `patience` seconds (PATIENCE) while S3 is away.

    One for all who ask for the same, in whatever thread: making one takes a tenth of a second of CPU.
    Stores other than AWS's own get path-style addresses, and neither send nor check the optional checksums of newer
    clients: embedded and older servers answer a ranged read with the checksum of the whole object. Bodies sent to them
    over plain HTTP are still covered by the SHA-256 that SigV4 signs.
    """
    # What opens objects is no part of it, and is not to be kept for longer than its instance.
    return _client(replace(store, keys=()), connections, attempts, timeout, PATIENCE if patience is None else patience)


@lru_cache(maxsize=16)
def _client(store: ObjectStore, connections: int, attempts: int, timeout: float, patience: float) -> Any:
    own = store.endpoint is not None
    config = Config(
        s3={"addressing_style": "path" if own else "auto"},
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=timeout,
        max_pool_connections=connections,
        response_checksum_validation="when_required" if own else "when_supported",
        request_checksum_calculation="when_required" if own else "when_supported",
        # To the platform's own S3 requests go in the clear: a proxy would be shown the data.
        proxies=None if store.proxied else {},
    )
    session = boto3.session.Session(
        store.access_key, store.secret_key, store.token, region_name=store.region, botocore_session=unconfigured()
    )
    made = session.client("s3", endpoint_url=store.endpoint, config=config)
    made.meta.events.register("needs-retry.s3", partial(_again, patience))
    return made


def unconfigured() -> botocore.session.Session:
    """A session that reads no configuration of AWS's clients: no profile, no file of the user's says how Phalanx asks."""
    nothing = (None, None, os.devnull, None)
    return botocore.session.Session(
        session_vars={"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    )


def _again(
    patience: float,
    request_dict: dict[str, Any],
    response: tuple[Any, Any] | None,
    attempts: int,
    caught_exception: Exception | None,
    **_: Any,
) -> float | None:
    """After how many seconds botocore shall try again; None: as its own handler says.

    That one gives up after some attempts, of all requests together at that, however long they took.
    """
    away = isinstance(caught_exception, HTTPClientError | S3ConnectionError)
    if not away and (response is None or not _broke(response[0].status_code)):
        return None
    now = time.monotonic()
    began: float = request_dict["context"].setdefault("away_since", now)
    return min(0.1 * 2**attempts, 2) * random.uniform(0.5, 1) if now - began < patience else None  # noqa: S311


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of `s3://bucket/key`. Raises DataError for anything else."""
    try:
        parts = urlsplit(uri, allow_fragments=False)
    except ValueError:  # a bracket that could be an IPv6 address's
        parts = urlsplit("")
    if parts.scheme != "s3" or not parts.netloc:
        raise DataError(f'ClientError: "{uri}" is not an S3 URI; it must look like s3://bucket/prefix')
    return parts.netloc, uri[len("s3://") + len(parts.netloc) :].removeprefix("/")


def list_objects(store: ObjectStore, uri: str) -> list[S3Object]:
    """All objects whose key starts with the URI's (ListObjectsV2, S3DataType S3Prefix), sorted by the key's UTF-8 bytes.

    Keys that end with `/` are left out: consoles create them, empty, to show a folder. Raises DataError.
    """
    bucket, prefix = parse_uri(uri)
    found = []
    try:
        for page in client(store).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            found += [S3Object(entry["Key"], entry["Size"]) for entry in page.get("Contents", [])]
    except (ClientError, BotoCoreError) as error:
        raise failure("Data download failed", uri, error) from error
    return sorted((o for o in found if not o.key.endswith("/")), key=lambda o: o.key.encode())


def has_objects(store: ObjectStore, uri: str) -> bool:
    """Whether an object lies under the URI's prefix; False too where the bucket does not exist, or whoever asks may
    not list it. Raises DataError."""
    bucket, prefix = parse_uri(uri)
    try:
        for page in client(store, patience=0).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            if any(not entry["Key"].endswith("/") for entry in page.get("Contents", [])):
                return True
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in ("NoSuchBucket", "404", "AccessDenied"):
            return False
        raise failure("Data download failed", uri, error) from error
    return False


@dataclass(frozen=True, slots=True)
class Stored:
    """What S3 has under a key: its `size` in bytes there, whether a job wrote it encrypted, and its content, decrypted where it
    is, to be read once."""

    size: int
    sealed: bool
    content: Iterator[bytes]


def get(s3: Any, bucket: str, key: str, keys: Sequence[DataKey], what: str) -> Stored:
    """An object, read while its content is. `keys` may open it. A body that breaks off goes on where it ended: botocore repeats
    requests, but not the reading of what they bring.

    This and reading the content raise DataError, of which `what` begins the text.
    """
    uri = f"s3://{bucket}/{key}"

    def request(**options: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = s3.get_object(Bucket=bucket, Key=key, **options)
        except (ClientError, BotoCoreError) as error:
            raise failure(what, uri, error) from error
        return answer

    answer = request()
    sealed, content = envelope.unsealed(_body(answer, request, uri, what), envelope.among(keys))
    return Stored(answer["ContentLength"], sealed, _readable(content, uri, what) if sealed else content)


def _body(answer: dict[str, Any], request: Callable[..., dict[str, Any]], uri: str, what: str) -> Iterator[bytes]:
    size, etag, body = answer["ContentLength"], answer["ETag"], answer["Body"]
    received = attempts = 0
    try:
        while received < size:
            try:
                chunk = body.read(_CHUNK)
            except BotoCoreError as error:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise failure(what, uri, error) from error
                time.sleep(0.2 * 2**attempts)
                body.close()
                again = request(Range=f"bytes={received}-")
                body = again["Body"]
                if again["ETag"] != etag:
                    raise DataError(f"ClientError: {what}:{uri} changed while it was read") from error
                continue
            attempts, received = 0, received + len(chunk)
            yield chunk
    finally:
        body.close()


def _readable(content: Iterator[bytes], uri: str, what: str) -> Iterator[bytes]:
    try:
        yield from content
    except envelope.EnvelopeError as error:
        raise DataError(f"ClientError: {what}:{uri} cannot be decrypted: {error}") from error


def ensure_bucket(store: ObjectStore, bucket: str) -> None:
    """Create a bucket of ours where it does not exist. Raises DataError."""
    s3 = client(store)
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise failure("Bucket creation failed", f"s3://{bucket}", error) from error
        # CreateBucket refuses us-east-1 as a constraint: it is what no constraint means.
        where = {} if store.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": store.region}}
        try:
            s3.create_bucket(Bucket=bucket, **where)
        except (ClientError, BotoCoreError) as second:
            raise failure("Bucket creation failed", f"s3://{bucket}", second) from second
    except BotoCoreError as error:
        raise failure("Bucket creation failed", f"s3://{bucket}", error) from error


def failure(what: str, uri: str, error: ClientError | BotoCoreError) -> DataError:
    """The DataError for an error of botocore: the user's where S3 refused, ours where S3 could not be reached or broke."""
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        text = error.response["Error"].get("Message", "")
        side = "InternalServerError" if _broke(status) else "ClientError"
        return DataError(f"{side}: {what}:{code} ({status}): {text} ({uri})")
    if isinstance(error, HTTPClientError | S3ConnectionError):
        return DataError(f"InternalServerError: {what}:S3 cannot be reached for {uri}: {error}. Check that the S3 server runs")
    return DataError(f"ClientError: {what}:{error} ({uri})")


def _broke(status: int) -> bool:
    """Whether S3 has failed, by the status of its answer. What it has not (501) it will not have a minute later either."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED


class Readable(Protocol):
    """What is uploaded. It cannot be sought in: how long it is, is what reading it gives."""

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, fewer at the end; all that are left where it is negative."""


def put(s3: Any, bucket: str, key: str, content: Readable, what: str, seal: DataKey | None = None, size: int = 0) -> None:
    """Upload what can be read of `content`, `size` bytes at most where that is known, encrypted where `seal` is given; `what`
    begins the text of the DataError that this raises. What reading raises ends the upload."""
    config = TransferConfig(multipart_chunksize=max(_PART, size // _PARTS), multipart_threshold=_PART, max_concurrency=2)
    # Parts that wait in memory; boto3 takes ten unless told otherwise, and has no argument for it.
    config.max_in_memory_upload_chunks = 2
    try:
        s3.upload_fileobj(content if seal is None else envelope.sealed(content, seal), bucket, key, Config=config)
    except S3UploadFailedError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError | BotoCoreError):
            raise failure(what, f"s3://{bucket}/{key}", cause) from error
        raise DataError(f"InternalServerError: {what}:{error}") from error
    except (ClientError, BotoCoreError) as error:
        raise failure(what, f"s3://{bucket}/{key}", error) from error
    except OSError as error:
        raise DataError(f"InternalServerError: {what}:{error}") from error
