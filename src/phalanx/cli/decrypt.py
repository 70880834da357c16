"""`phalanx decrypt`: what a job with a KmsKeyId wrote, in the clear."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from botocore.exceptions import BotoCoreError, ClientError

from phalanx.cli.env import client
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
    try:
        chunks = _object(data_dir, source) if source.startswith("s3://") else _file(Path(source))
        encrypted, content = envelope.unsealed(chunks, _by_kms(data_dir))
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


def _by_kms(data_dir: Path) -> envelope.Unwrap:
    """Data keys as KMS decrypts them."""
    kms = client(data_dir, "kms")

    def unwrap(arn: str, wrapped: bytes) -> bytes:
        plaintext: bytes = kms.decrypt(KeyId=arn, CiphertextBlob=wrapped, EncryptionContext=envelope.CONTEXT)["Plaintext"]
        return plaintext

    return unwrap


def _object(data_dir: Path, uri: str) -> Iterator[bytes]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3 = client(data_dir, "s3")
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
