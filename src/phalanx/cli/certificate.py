"""The service's own certificate, for when it listens beyond loopback and was given no other."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phalanx.linux import files

VALID = timedelta(days=397)
"""How long a certificate is valid: what browsers take at most."""
AUTHORITY_VALID = timedelta(days=3650)
"""How long its authority is: as long as the invitations of hosts, which have it with them."""
RENEWED = timedelta(days=30)
"""A certificate is made anew when less than this is left of it, an authority at a start then."""
LOOK_SECONDS = 600
"""How often a service looks whether its certificate is to be made anew, or somebody has put another in its place."""
_FILES = ("server.pem", "server.key", "authority.pem")
_AUTHORITY_KEY = "authority.key"
_SIOCGIFADDR = 0x8915
_IFA_F_TEMPORARY = 0x01

log = structlog.get_logger()


def ensure(directory: Path, host: str) -> tuple[Path, Path, Path]:
    """The certificate for `host`, its key and the authority that clients have to trust: PEM files (mode 0600) of `directory`.

    They are made where they are missing, nearly over, or for another host: a certificate by the authority that is there, as
    long as that is valid and its key is beside it. To keep that key spares everybody, every host of a fleet among them, to be
    told of another authority each year; who can read it could read the certificate's too. Raises OSError.
    """
    certificate, key, authority = (directory / name for name in _FILES)
    if not _fits(certificate, key, authority, host):
        directory.mkdir(mode=0o700, exist_ok=True)
        issuer = _issuer(directory)
        if issuer is None:
            known = authority.exists()
            issuer = _make_authority()
            files.replace(directory / _AUTHORITY_KEY, _private(issuer[0]))
            files.replace(authority, issuer[1].public_bytes(Encoding.PEM))
            if known:
                log.warning(
                    "clients and hosts have to trust another authority: eval `phalanx env` anew, and invite the hosts again",
                    authority=str(authority),
                )
        _issue(directory, host, *issuer)
    return certificate, key, authority


def renew(directory: Path, host: str) -> None:
    """Make the certificate anew where it is nearly over, while the service runs; the authority stays. Where that cannot sign,
    the log says what to do. Raises OSError, ValueError."""
    certificate = directory / _FILES[0]
    if not nearly_over(certificate):
        return
    issuer = _issuer(directory)
    if issuer is None:
        _tell_that_it_ends(certificate, expires(certificate))
    else:
        _issue(directory, host, *issuer)


def show(context: ssl.SSLContext | None, certificate: Path, key: Path) -> datetime | None:
    """Have a server show from now on what is in these files, and tell when that ends; or, where they cannot be used, have it go
    on as before, and say so in the log. To be called in the thread in which the connections are made."""
    assert context is not None  # noqa: S101
    # A context has a certificate for each kind of key, and shows the one that a client likes best: an RSA certificate loaded
    # beside one of ECDSA would be shown to nobody. So connections are handed to a context that has this one alone.
    fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fresh.set_ciphers(":".join(cipher["name"] for cipher in context.get_ciphers()))

    def hand_over(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = fresh

    try:
        # Read once: who replaces them does so one after the other.
        content = certificate.read_bytes()
        with _in_memory(content) as shown, _in_memory(key.read_bytes()) as private:
            fresh.load_cert_chain(shown, private)
        end = _end(content)
    except (OSError, ValueError) as error:
        log.warning("the certificate cannot be used, and the one before is shown", file=str(certificate), reason=str(error))
        return None
    context.sni_callback = hand_over
    return end


def nearly_over(certificate: Path) -> bool:
    """Whether a certificate is to be made anew. Raises OSError, ValueError."""
    return expires(certificate) - datetime.now(UTC) < RENEWED


def expires(certificate: Path) -> datetime:
    """When a certificate ends, the first of its file. Raises OSError, ValueError."""
    return _end(certificate.read_bytes())


def _end(certificate: bytes) -> datetime:
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file that no other process has (memfd_create(2)), while it is needed: OpenSSL reads files alone."""
    with open(os.memfd_create("certificate"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@functools.cache
def _tell_that_it_ends(certificate: Path, end: datetime) -> None:
    """Say once that the service cannot renew a certificate while it runs: it asks every ten minutes."""
    log.warning(
        "the certificate ends, and its authority cannot sign another (an earlier version kept no key of it, or its own time is "
        "nearly over): start the service again, then eval `phalanx env` anew, and invite the hosts again",
        certificate=str(certificate),
        end=end.isoformat(),
    )


def _fits(certificate: Path, key: Path, authority: Path, host: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.read_bytes()))
    except (OSError, ValueError, InvalidSignature):
        # Missing, empty, damaged, or half replaced: nothing but a new one mends that.
        return False
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(_names(host)) <= set(names) and not nearly_over(certificate)


def _issuer(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    """The authority's key and itself, where both are there and it is valid for a while."""
    try:
        key = load_pem_private_key((directory / _AUTHORITY_KEY).read_bytes(), None)
        authority = x509.load_pem_x509_certificate((directory / _FILES[2]).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != authority.public_key():
        return None
    return (key, authority) if authority.not_valid_after_utc - datetime.now(UTC) > RENEWED else None


def _names(host: str) -> list[x509.GeneralName]:
    """What clients may call the service: the address it listens on, or all of this host's, and the host's names."""
    addresses = ["127.0.0.1", "::1"]
    if host in ("0.0.0.0", "::"):  # noqa: S104
        addresses += _own_addresses()
    if host == "::":
        addresses += _own_ipv6_addresses()
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


def _own_ipv6_addresses() -> list[str]:
    """The IPv6 addresses of this host's interfaces that stay: none of one link alone, and no temporary ones (RFC 8981)."""
    try:
        # Address in hex, index, length of the prefix, scope, flags, name (proc(5)).
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = ((ipaddress.IPv6Address(bytes.fromhex(fields[0])), int(fields[4], 16)) for fields in map(str.split, lines))
    return [str(address) for address, flags in found if not address.is_link_local and not flags & _IFA_F_TEMPORARY]


def _make_authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Phalanx on {socket.gethostname()}"[:64])])
    authority = (
        _builder(name, key.public_key(), name, key.public_key(), datetime.now(UTC) + AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, SHA384())
    )
    return key, authority


def _issue(directory: Path, host: str, signing: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> None:
    """Make a certificate and its key, which is valid no longer than its authority."""
    key = ec.generate_private_key(ec.SECP384R1())
    until = min(datetime.now(UTC) + VALID, authority.not_valid_after_utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Phalanx")])
    certificate = (
        _builder(name, key.public_key(), authority.subject, signing.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(dict.fromkeys(_names(host))), critical=False)
        .sign(signing, SHA384())
    )
    files.replace(directory / _FILES[1], _private(key))
    files.replace(directory / _FILES[0], certificate.public_bytes(Encoding.PEM))


def _builder(
    name: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Clients' clocks may be behind by what a signature may be.
        .not_valid_before(datetime.now(UTC) - timedelta(minutes=5))
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(signs: bool) -> x509.KeyUsage:
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


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
