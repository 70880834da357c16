"""The signature of reports: Ed25519 over what they say, checked anywhere and without the service."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from phalanx.linux import files
from phalanx.store.base import Json


class Tampered(Exception):
    """A report's signature does not fit its content; the text says how."""


class KeyFileError(Exception):
    """The file of the key that signs reports cannot be used; the text names it."""


class Signer:
    """The service's Ed25519 key (RFC 8032), made on first use and kept in the data directory with mode 0600."""

    def __init__(self, path: Path) -> None:
        """Raises KeyFileError, OSError."""
        if not path.exists():
            files.replace(path, Ed25519PrivateKey.generate().private_bytes_raw())
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(path.read_bytes())
        except ValueError as error:
            raise KeyFileError(f"{path} holds no key that signs reports: bring it back from a backup") from error

    @property
    def public_key(self) -> str:
        """Base64 of the 32-byte public key."""
        return base64.b64encode(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def sign(self, report: Json) -> Json:
        """The report with its `signature`, made over all other members."""
        signature = {"algorithm": "Ed25519", "public_key": self.public_key}
        value = self._key.sign(_canonical({**report, "signature": signature}))
        return {**report, "signature": {**signature, "value": base64.b64encode(value).decode()}}


def verify(report: Json, public_key: str | None = None) -> str:
    """Check a report against the key it names, or against `public_key` (base64) where the reader knows the service's key.

    Returns the public key that signed it. Raises Tampered.
    """
    try:
        signature = dict(report["signature"])
        value = _decoded(signature.pop("value"))
        key = signature["public_key"]
        if public_key is not None and key != public_key:
            raise Tampered(f"The report was signed by {key}, not by {public_key}")
        Ed25519PublicKey.from_public_bytes(_decoded(key)).verify(value, _canonical({**report, "signature": signature}))
    except InvalidSignature as error:
        raise Tampered("The signature does not fit the report: it was changed after it was signed") from error
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"The report has no well-formed signature ({error})") from error
    return str(key)


def _decoded(text: str) -> bytes:
    """What Base64 stands for. Raises ValueError for any text but the one that is written for it: the last digit has bits that
    decide nothing, and one changed byte of a report is one too many."""
    value = base64.b64decode(text, validate=True)
    if base64.b64encode(value).decode() != text:
        raise ValueError("its Base64 is not as it is written")
    return value


def _canonical(report: Json) -> bytes:
    # Sorted keys and no spaces: the same report gives the same bytes on every machine (RFC 8785's rules for what we use:
    # strings, integers, booleans, null).
    return json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
