"""What jobs with a KmsKeyId write: objects in the AWS Encryption SDK's message format, each under a data key of a KMS key.

Every message derives a key of its own from the data key (AES-256-GCM, HKDF-SHA512, key commitment) and is made of frames
that are authenticated one by one, so that objects of any size are streams both ways. Any AWS Encryption SDK that may ask KMS
for the key can read them. See docs/decisions/0015-objects-are-encrypted-by-the-writer.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from aws_encryption_sdk import EncryptionSDKClient
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import Algorithm
from aws_encryption_sdk.materials_managers import DecryptionMaterials, EncryptionMaterials
from aws_encryption_sdk.materials_managers.base import CryptoMaterialsManager
from aws_encryption_sdk.structures import DataKey as SdkKey
from aws_encryption_sdk.structures import EncryptedDataKey, MasterKeyInfo
from cryptography.exceptions import InvalidTag

from phalanx.data.model import DataKey

CONTEXT = {"phalanx": "training-job"}
"""The encryption context of the data keys that jobs write with, and so of every object."""
FRAME = 1 << 20
"""Bytes of plaintext in a frame."""
_PROVIDER = "aws-kms"
_SUITE = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
_CHUNK = 1 << 20

Unwrap = Callable[[str, bytes], bytes | None]
"""The data key of which a KMS key (its ARN) made the given ciphertext; None where there is none to have."""


class EnvelopeError(Exception):
    """An object cannot be decrypted; the text says why."""


class _Materials(CryptoMaterialsManager):  # type: ignore[misc]
    """One data key to encrypt with, or what `unwrap` gives to decrypt with."""

    def __init__(self, key: DataKey | None = None, unwrap: Unwrap | None = None) -> None:
        self._key = key
        self._unwrap = unwrap

    def get_encryption_materials(self, request: Any) -> Any:
        """See CryptoMaterialsManager."""
        assert self._key is not None  # noqa: S101
        provider = MasterKeyInfo(_PROVIDER, self._key.arn)
        return EncryptionMaterials(
            algorithm=_SUITE,
            data_encryption_key=SdkKey(provider, self._key.plaintext, self._key.wrapped),
            encrypted_data_keys={EncryptedDataKey(provider, self._key.wrapped)},
            encryption_context=request.encryption_context,
        )

    def decrypt_materials(self, request: Any) -> Any:
        """See CryptoMaterialsManager."""
        assert self._unwrap is not None  # noqa: S101
        arns = [each.key_provider.key_info.decode() for each in request.encrypted_data_keys]
        for arn, each in zip(arns, request.encrypted_data_keys, strict=True):
            plaintext = self._unwrap(arn, each.encrypted_data_key)
            if plaintext is not None:
                return DecryptionMaterials(data_key=SdkKey(each.key_provider, plaintext, each.encrypted_data_key))
        why = "disabled, deleted, not of this service, or not allowed (kms:Decrypt)"
        raise EnvelopeError(f"it is encrypted under {' and '.join(arns)}, which is {why}")


def sealed(content: Any, key: DataKey) -> Any:
    """A stream (`read(size)`) of the message that holds what can be read of `content`."""
    return EncryptionSDKClient().stream(
        mode="e",
        source=content,
        materials_manager=_Materials(key=key),
        encryption_context=dict(CONTEXT),
        algorithm=_SUITE,
        frame_length=FRAME,
    )


def is_sealed(head: bytes) -> bool:
    """Whether an object that begins with `head` (HEAD bytes of it) was written by `sealed`."""
    return head[:3] == START and head[_ID_END:HEAD] == _CONTEXT


def unsealed(chunks: Iterator[bytes], unwrap: Unwrap) -> tuple[bool, Iterator[bytes]]:
    """Whether an object, of which `chunks` are the bytes, is sealed; and the content, decrypted where it is.

    Nothing is given out that is not authenticated. Reading raises EnvelopeError, and what reading `chunks` raises.
    """
    source = _Chunks(chunks)
    head = source.peek(HEAD)
    if not is_sealed(head):
        return False, source.rest()
    return True, _decrypted(source, unwrap)


def among(keys: Sequence[DataKey]) -> Unwrap:
    """Unwrap by known data keys."""
    known = {(key.arn, key.wrapped): key.plaintext for key in keys}
    return lambda arn, wrapped: known.get((arn, wrapped))


def _decrypted(source: _Chunks, unwrap: Unwrap) -> Iterator[bytes]:
    try:
        with EncryptionSDKClient().stream(mode="d", source=source, materials_manager=_Materials(unwrap=unwrap)) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (AWSEncryptionSDKClientError, InvalidTag, UnicodeDecodeError) as error:
        raise EnvelopeError(f"it is damaged: {type(error).__name__}") from error


class _Chunks:
    """A readable stream of pieces of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left."""
        while len(self._buffer) < size and (chunk := next(self._chunks, b"")):
            self._buffer += chunk
        return bytes(self._buffer[:size])

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, or all that are left; all of them where it is negative."""
        if size < 0:
            return b"".join(self.rest())
        content = self.peek(size)
        del self._buffer[:size]
        return content

    def rest(self) -> Iterator[bytes]:
        """What is left, in pieces."""
        if self._buffer:
            yield bytes(self._buffer)
            self._buffer.clear()
        yield from self._chunks


def _serialized(context: Iterable[tuple[str, str]]) -> bytes:
    """An encryption context as it is in a message's header (AWS Encryption SDK, message format: AAD)."""
    pairs = [(name.encode(), value.encode()) for name, value in sorted(context)]
    body = b"".join(struct.pack(">H", len(part)) + part for pair in pairs for part in pair)
    return struct.pack(">HH", len(body) + 2, len(pairs)) + body


START = b"\x02" + struct.pack(">H", _SUITE.algorithm_id)
"""How all messages of this format begin, other programs' as well."""
_ID_END = len(START) + 32
_CONTEXT = _serialized(CONTEXT.items())
HEAD = _ID_END + len(_CONTEXT)
"""How many bytes of an object tell whether it is sealed."""
