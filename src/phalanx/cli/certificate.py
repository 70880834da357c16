"""The service's own certificate, for when it listens beyond loopback and was given no other."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=397)
"""How long a certificate is valid: what browsers take at most."""
RENEWED = timedelta(days=30)
"""It is made anew at a start at which less than this is left of it."""
_SIOCGIFADDR = 0x8915


def ensure(directory: Path, host: str) -> tuple[Path, Path, Path]:
    """The certificate for `host`, its key (mode 0600) and the authority that clients have to trust: PEM files of `directory`.

    They are made where they are missing, nearly over, or for another host. The authority's own key is never written: it signs
    this one certificate, and nothing else ever.
    """
    certificate, key, authority = (directory / name for name in ("server.pem", "server.key", "authority.pem"))
    if not _fits(certificate, key, host) or not authority.exists():
        directory.mkdir(mode=0o700, exist_ok=True)
        made = _make(host)
        for path, content in zip((key, authority, certificate), made, strict=True):
            partial = path.with_suffix(".new")
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600)
            partial.write_bytes(content)
            os.replace(partial, path)
    return certificate, key, authority


def _fits(certificate: Path, key: Path, host: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError:
        # Missing, empty or damaged: nothing but a new one mends that.
        return False
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(_names(host)) <= set(names) and found.not_valid_after_utc - datetime.now(UTC) > RENEWED


def _names(host: str) -> list[x509.GeneralName]:
    """What clients may call the service: the address it listens on, or all of this host's, and the host's names."""
    addresses = ["127.0.0.1", "::1", *(_own_addresses() if host in ("0.0.0.0", "::") else [])]  # noqa: S104
    names = ["localhost", socket.gethostname(), socket.getfqdn()]
    try:
        addresses.append(str(ipaddress.ip_address(host)))
    except ValueError:
        names.append(host)
    return [
        *(x509.DNSName(name) for name in dict.fromkeys(names) if name and name.isascii() and len(name) < 64),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)),
    ]


def _own_addresses() -> Iterator[str]:
    """The IPv4 addresses of this host's interfaces (netdevice(7)) that are there at the start."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                yield socket.inet_ntoa(answer[20:24])


def _make(host: str) -> tuple[bytes, bytes, bytes]:
    """Key, authority, and certificate followed by nothing: as PEM."""
    authority_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    now = datetime.now(UTC)

    def builder(name: str, public_key: ec.EllipticCurvePublicKey, issuer: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            # Clients' clocks may be behind by what a signature may be.
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        )

    def usage(signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    issuer = f"Phalanx on {socket.gethostname()}"[:64]
    authority = (
        builder(issuer, authority_key.public_key(), issuer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .sign(authority_key, SHA384())
    )
    certificate = (
        builder("Phalanx", key.public_key(), issuer)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(dict.fromkeys(_names(host))), critical=False)
        .sign(authority_key, SHA384())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        authority.public_bytes(Encoding.PEM),
        certificate.public_bytes(Encoding.PEM),
    )
