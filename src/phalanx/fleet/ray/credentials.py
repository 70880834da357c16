"""Who may be part of a fleet: its authority and token, the certificates of its hosts, and what Ray is told of them."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phalanx.fleet.base import FleetError
from phalanx.linux import files

VALID = timedelta(days=3650)
"""How long an invitation holds. Who must be shut out before: make DIR/ray anew, and invite the others again."""
_TOKEN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that one host needs to join: as good as root on every host of the fleet, so for root's eyes alone.

    `head` is where the control plane's Ray answers (ADDRESS:PORT), `address` the host's own; `s3_authority` (PEM) is what it
    has to trust to reach S3, where that is not a matter of course.
    """

    head: str
    address: str
    token: str = field(repr=False)
    authority: str
    certificate: str
    key: str = field(repr=False)
    s3_authority: str | None = None

    def save(self, path: Path) -> None:
        """Write to a file with mode 0600. Raises OSError."""
        files.replace(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Invitation:
        """Read what `save` wrote. Raises OSError, ValueError."""
        try:
            return cls(**json.loads(path.read_text()))
        except TypeError as error:
            raise ValueError(str(error)) from error


class Authority:
    """The fleet's authority and token, made on first use and kept in `directory` with mode 0600."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (directory / "authority.pem").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            files.replace(directory / "token", secrets.token_hex(32))
            files.replace(directory / "authority.key", _pem(key))
            files.replace(directory / "authority.pem", _certificate(key, key, "Phalanx fleet", None))

    def invite(self, head: str, address: str, s3_authority: str | None) -> Invitation:
        """An invitation for the host with that address (IPv4), with a key of its own.

        Raises OSError, ValueError, and FleetError where what is kept is not whole: an empty token would be no secret.
        """
        try:
            token, certificate = ((self._directory / name).read_text() for name in ("token", "authority.pem"))
            authority = load_pem_private_key((self._directory / "authority.key").read_bytes(), None)
            known = x509.load_pem_x509_certificate(certificate.encode()).public_key()
        except (FileNotFoundError, ValueError) as error:
            raise self._damaged(str(error)) from error
        if not _TOKEN.fullmatch(token):
            raise self._damaged("there is no token in it")
        if not isinstance(authority, ec.EllipticCurvePrivateKey) or authority.public_key() != known:
            raise self._damaged("the authority's key is not that of its certificate")
        key = ec.generate_private_key(ec.SECP256R1())
        return Invitation(
            head=head,
            address=address,
            token=token,
            authority=certificate,
            certificate=_certificate(key, authority, f"Phalanx host {address}", address),
            key=_pem(key),
            s3_authority=s3_authority,
        )

    def _damaged(self, why: str) -> FleetError:
        return FleetError(
            f"{self._directory} does not hold what tells the fleet's hosts from strangers ({why}): bring it back from a backup,"
            " or remove it and invite all hosts anew"
        )


def environment(invitation: Invitation, directory: Path) -> dict[str, str]:
    """What Ray's processes are told, so that nothing of theirs is sent in the clear or taken from strangers.

    The files that it names are written to `directory`, with mode 0600.
    """
    told = {"token": invitation.token, "authority.pem": invitation.authority}
    told |= {"host.pem": invitation.certificate, "host.key": invitation.key}
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, content in told.items():
        files.replace(directory / name, content)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(directory / "token"),
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(directory / "host.pem"),
        "RAY_TLS_SERVER_KEY": str(directory / "host.key"),
        "RAY_TLS_CA_CERT": str(directory / "authority.pem"),
        "RAY_USAGE_STATS_ENABLED": "0",
        # What passes may hold keys: never on a disk.
        "RAY_automatic_object_spilling_enabled": "0",
    }


def _certificate(key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey, name: str, address: str | None) -> str:
    """A certificate (PEM): an authority's own, or that of the host with that address, which is server and client."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Phalanx fleet")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
    )
    if address is not None:
        names = [x509.IPAddress(IPv4Address(address)), x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    return builder.sign(issuer, SHA256()).public_bytes(Encoding.PEM).decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
