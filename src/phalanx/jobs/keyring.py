"""The local key store behind KMS: keys at rest under one root key, and envelopes as KMS makes them.

Only AES-256-GCM of `cryptography` is used. A nonce is random, so that one key may encrypt 2^32 times (NIST SP 800-38D, 8.3):
the service encrypts data keys, not data.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from phalanx.data.envelope import CONTEXT
from phalanx.data.model import DataKey
from phalanx.linux import files
from phalanx.store.base import DAY_MS, now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import Tag
from phalanx.store.keys import Key, KeyAlias, KeyRotation

KEY_BYTES = 32
ENCRYPTS, DECRYPTS = "GenerateDataKey", "Decrypt"
"""The operations that a role has to be allowed with a key under which its jobs write and read, as for S3's own encryption."""
_NONCE = 12
_VERSION = b"\x01"
_HEAD = len(_VERSION) + 16


class KeyringError(Exception):
    """The key store cannot be opened; the text says why."""


class KeyFault(Exception):
    """A key cannot be used. `code` is KMS's name for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def find(session: Session, identifier: str) -> Key:
    """The key that a KeyId, key ARN, `alias/NAME` or alias ARN names. Raises KeyFault NotFoundException."""
    if identifier.startswith("alias/") or ":alias/" in identifier:
        alias = session.scalar(select(KeyAlias).where(or_(KeyAlias.name == identifier, KeyAlias.arn == identifier)))
        key = None if alias is None else session.get(Key, alias.key)
        missing = f"Alias {identifier[:256]} is not found."
    else:
        key = session.scalar(select(Key).where(or_(Key.id == identifier, Key.arn == identifier)))
        missing = f"Key '{identifier[:256]}' does not exist"
    if key is None or (key.deletion is not None and key.deletion <= now_ms()):
        raise KeyFault("NotFoundException", missing)
    return key


def usable(session: Session, identifier: str) -> Key:
    """A key that encrypts and decrypts. Raises KeyFault, also where it is disabled or pending deletion."""
    key = find(session, identifier)
    if key.deletion is not None:
        raise KeyFault("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if not key.enabled:
        raise KeyFault("DisabledException", f"{key.arn} is disabled.")
    return key


def not_allowed(role: str, key: str) -> str:
    """Why a job with a role (ARN) may not write under a key (ARN)."""
    return f"The role {role} is not authorized to perform: kms:{ENCRYPTS} on resource: {key}."


def purge(session: Session) -> None:
    """Delete the keys whose waiting period is over, what they were before, their aliases and tags."""
    over = Key.deletion <= now_ms()
    for of_key in (KeyAlias, KeyRotation):
        session.execute(delete(of_key).where(of_key.key.in_(select(Key.id).where(over))))
    session.execute(delete(Tag).where(Tag.arn.in_(select(Key.arn).where(over))))
    session.execute(delete(Key).where(over))


class Keyring:
    """What the root key opens. The root key is made on first use, and kept in the file `root` with mode 0600."""

    def __init__(self, database: Database, root: Path) -> None:
        """Raises KeyringError where the store's keys do not open with that root key, or it is gone while there are some, or
        cannot be read or made."""
        self._database = database
        with database.write() as session:
            purge(session)
            key = session.scalar(select(Key).limit(1))
        if key is not None and not root.exists():
            raise KeyringError(f"The root key {root} is missing; without it no key of KMS can be used. Bring it back")
        try:
            if not root.exists():
                files.replace(root, secrets.token_bytes(KEY_BYTES))
            content = root.read_bytes()
        except OSError as error:
            raise KeyringError(f"The root key {root} can neither be read nor made: {error.strerror}") from error
        if len(content) != KEY_BYTES:
            raise KeyringError(f"The root key {root} must have {KEY_BYTES} bytes, and has {len(content)}")
        self._root = AESGCM(content)
        if key is not None:
            try:
                self._material(key)
            except InvalidTag as error:
                raise KeyringError(f"The root key {root} is not the one that the keys of KMS are sealed with") from error

    def create(self, session: Session, arn: str, description: str, policy: str | None = None) -> Key:
        """A new key; the last part of its ARN, given up to `key/`, is its id."""
        id = str(uuid.uuid4())
        sealed, data_key = self._made(id)
        key = Key(
            id=id,
            arn=arn + id,
            description=description,
            enabled=True,
            sealed=sealed,
            data_key=data_key,
            created=now_ms(),
            policy=policy,
        )
        session.add(key)
        return key

    def rotate(self, session: Session, key: Key, on_demand: bool) -> None:
        """Give a key new material, and jobs a new data key of it. What it had stays, and opens what it encrypted."""
        number = session.scalar(select(func.count()).where(KeyRotation.key == key.id)) or 0
        session.add(
            KeyRotation(
                key=key.id,
                number=number + 1,
                rotated=now_ms(),
                on_demand=on_demand,
                sealed=key.sealed,
                data_key=key.data_key,
            )
        )
        key.sealed, key.data_key = self._made(key.id)

    def rotate_due(self) -> None:
        """Rotate the keys whose time has come. A key that is disabled or is to be deleted waits until it may be used again."""
        due = (Key.rotates <= now_ms(), Key.enabled, Key.deletion.is_(None))
        with self._database.read() as session:
            if session.scalar(select(Key.id).where(*due).limit(1)) is None:
                return
        with self._database.write() as session:
            for key in session.scalars(select(Key).where(*due)).all():
                self.rotate(session, key, on_demand=False)
                key.rotates = now_ms() + (key.rotation_days or 0) * DAY_MS

    def encrypting(self, identifier: str) -> Key:
        """A key to encrypt with, which has been rotated where that was due. Raises KeyFault as `usable` does."""
        with self._database.read() as session:
            key = usable(session, identifier)
        if key.rotates is None or key.rotates > now_ms():
            return key
        self.rotate_due()
        with self._database.read() as session:
            return usable(session, identifier)

    def encrypt(self, key: Key, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """KMS's Encrypt: the ciphertext names its key, and opens with the same encryption context alone."""
        return _encrypt(key.id, self._material(key), plaintext, context)

    def decrypt(self, session: Session, ciphertext: bytes, context: Mapping[str, str]) -> tuple[Key, bytes]:
        """KMS's Decrypt: the key that a ciphertext names, and the plaintext. Raises KeyFault."""
        try:
            id = str(uuid.UUID(bytes=ciphertext[len(_VERSION) : _HEAD]))
            if not ciphertext.startswith(_VERSION):
                raise ValueError(ciphertext[:1])
            key = usable(session, id)
            return key, self._decrypt(_ever(session, key), ciphertext, context)
        except (ValueError, InvalidTag) as error:
            raise KeyFault("InvalidCiphertextException", "") from error
        except KeyFault as fault:
            if fault.code == "NotFoundException":
                raise KeyFault("InvalidCiphertextException", "") from fault
            raise

    def data_keys(self) -> tuple[DataKey, ...]:
        """Of every key that is enabled, the data key that jobs write with, and behind it those that they wrote with before."""
        self.rotate_due()
        with self._database.read() as session:
            keys = session.scalars(select(Key).where(Key.enabled, Key.deletion.is_(None)).order_by(Key.id)).all()
            return tuple(
                DataKey(key.arn, each.data_key, self._decrypt([each], each.data_key, CONTEXT))
                for key in keys
                for each in _ever(session, key)
            )

    def _made(self, id: str) -> tuple[bytes, bytes]:
        """New material for a key, sealed, and a data key of it."""
        material = secrets.token_bytes(KEY_BYTES)
        return _seal(self._root, material, id.encode()), _encrypt(id, material, secrets.token_bytes(KEY_BYTES), CONTEXT)

    def _decrypt(self, among: Sequence[Key | KeyRotation], ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """Raises InvalidTag where it is of none of them."""
        for each in among:
            material = self._material(each)
            with suppress(InvalidTag):
                return _open(AESGCM(material), ciphertext[_HEAD:], _bound(ciphertext[:_HEAD], context))
        raise InvalidTag

    def _material(self, of: Key | KeyRotation) -> bytes:
        id = of.id if isinstance(of, Key) else of.key
        return _open(self._root, of.sealed, id.encode())


def _ever(session: Session, key: Key) -> list[Key | KeyRotation]:
    """What a key is and was, the latest first."""
    earlier = select(KeyRotation).where(KeyRotation.key == key.id).order_by(KeyRotation.number.desc())
    return [key, *session.scalars(earlier)]


def _encrypt(id: str, material: bytes, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    head = _VERSION + uuid.UUID(id).bytes
    return head + _seal(AESGCM(material), plaintext, _bound(head, context))


def _bound(head: bytes, context: Mapping[str, str]) -> bytes:
    return head + json.dumps(dict(context), sort_keys=True).encode()


def _seal(cipher: AESGCM, plaintext: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + cipher.encrypt(nonce, plaintext, bound)


def _open(cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    """Raises InvalidTag, ValueError where it is too short."""
    return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
