"""`phalanx decrypt`: what a job with a KmsKeyId wrote, in the clear."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import boto3
import typer
from botocore.exceptions import BotoCoreError, ClientError

from phalanx.cli.env import access
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.data import envelope

_CHUNK = 1 << 20


def decrypt(
    source: Annotated[str, typer.Argument(help="An object (s3://BUCKET/KEY) or a file.")],
    target: Annotated[str, typer.Argument(help="Where the content goes: a file, or - for standard output.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Decrypt what a job with a KmsKeyId wrote, as its model.tar.gz. Of what is not encrypted it says so, and copies it."""
    # Of a damaged object it logs a traceback, of which the error says all.
    logging.getLogger("aws_encryption_sdk").addHandler(logging.NullHandler())
    environment = access(data_dir)
    try:
        chunks = _object(environment, source) if source.startswith("s3://") else _file(Path(source))
        encrypted, content = envelope.unsealed(chunks, _by_kms(environment))
        if not encrypted:
            content = _plain(content)
        if target == "-":
            _write(content, sys.stdout.buffer)
        else:
            _save(content, Path(target))
    except envelope.EnvelopeError as error:
        fail(f"{source} cannot be decrypted: {error}.")
    except (ClientError, BotoCoreError) as error:
        fail(f"{source} cannot be decrypted: {error}")
    except OSError as error:
        fail(f"{error.filename or source}: {error.strerror}")
    if not encrypted:
        typer.echo(f"{source} is not encrypted by Phalanx, and was copied as it is.", err=True)


def _plain(content: Iterator[bytes]) -> Iterator[bytes]:
    """Content that is not encrypted. Raises EnvelopeError where it begins as an encrypted one does: then it is damaged."""
    head = next(content, b"")
    if head.startswith(envelope.START):
        raise envelope.EnvelopeError("it begins as what Phalanx encrypts, and is damaged, cut short or another program's")
    yield head
    yield from content


def _by_kms(environment: dict[str, str]) -> envelope.Unwrap:
    """Data keys as KMS decrypts them."""
    kms = _client(environment, "kms", environment["AWS_ENDPOINT_URL"])

    def unwrap(arn: str, wrapped: bytes) -> bytes:
        plaintext: bytes = kms.decrypt(KeyId=arn, CiphertextBlob=wrapped, EncryptionContext=envelope.CONTEXT)["Plaintext"]
        return plaintext

    return unwrap


def _client(environment: dict[str, str], service: str, endpoint: str) -> Any:
    session = boto3.session.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
    )
    return session.client(service, endpoint_url=endpoint, verify=environment.get("AWS_CA_BUNDLE"))


def _object(environment: dict[str, str], uri: str) -> Iterator[bytes]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3 = _client(environment, "s3", environment["AWS_ENDPOINT_URL_S3"])
    yield from s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK)


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


def _save(content: Iterator[bytes], path: Path) -> None:
    """All of the content, or no file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            _write(content, file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(content: Iterator[bytes], file: BinaryIO) -> None:
    for chunk in content:
        file.write(chunk)
