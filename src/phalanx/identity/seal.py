"""Secrets at rest: AES-256-GCM under a key that lies beside the database, not in it."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phalanx.linux import files

_KEY = 32
"""Bytes: AES-256. The half of one would be a key of AES-128."""
_NONCE = 12
"""Bytes (NIST SP 800-38D §8.2.2: random nonces of 96 bits)."""


class Broken(Exception):
    """What was sealed cannot be opened: the key is another one, or the text was changed."""


class Seal:
    """The service's sealing key, made on first use and kept in the file `path` with mode 0600."""

    def __init__(self, path: Path) -> None:
        """Raises Broken where the file holds no key, OSError."""
        if not path.exists():
            files.replace(path, secrets.token_bytes(_KEY))
        self._path = path
        content = path.read_bytes()
        if len(content) != _KEY:
            raise Broken(f"{path} holds no key: restore the file that belongs to this database.")
        self._key = AESGCM(content)

    def close(self, text: str, owner: str) -> str:
        """`text` sealed for `owner`, an access key id: it opens for nobody else."""
        nonce = secrets.token_bytes(_NONCE)
        return base64.b64encode(nonce + self._key.encrypt(nonce, text.encode(), owner.encode())).decode()

    def open(self, sealed: str, owner: str) -> str:
        """What was sealed for `owner`. Raises Broken."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._key.decrypt(raw[:_NONCE], raw[_NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise Broken(
                f"The secret of access key {owner} cannot be opened with {self._path}: restore the file that belongs to this"
                " database."
            ) from error
