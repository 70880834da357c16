"""The keys of one job: an authority that signs once and is forgotten, a certificate per instance, a PPK for all."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phalanx.ipsec.model import Credentials, Lifetimes, MeshSpec, Peer, Profile

SKEW = datetime.timedelta(hours=1)
"""How far the clocks of two hosts may lie apart without a certificate being refused."""

VALIDITY = datetime.timedelta(days=30)
"""How long a job's certificates hold: the longest job that SageMaker takes (28 days), and room to recover at its end."""

PPK_ID = "job"
"""Name of the post-quantum preshared key; it crosses the wire in the clear (RFC 8784 section 3), so it says nothing."""


def issue_mesh(
    job: str,
    hosts: Sequence[tuple[str, str]],
    lifetimes: Lifetimes = Lifetimes(),
    profile: Profile = "standard",
) -> dict[str, MeshSpec]:
    """Every instance's side of a job's mesh, by instance name.

    `hosts` are (name, IPv4 address). The authority's private key exists only inside this call, so no further certificate can
    ever be made for the job. Certificates are ECDSA P-384 with SHA-384; an instance's identity is the DNS subjectAltName
    `<name>.<job>.phalanx` (RFC 5280 section 4.2.1.6). The PPK has 256 random bits (RFC 8784 section 6).

    Raises ValueError where names or addresses repeat or do not fit a DNS label.
    """
    names = [name for name, _ in hosts]
    if len(set(names)) != len(names) or len({address for _, address in hosts}) != len(hosts):
        raise ValueError(f"instances of job {job} share a name or an address: {list(hosts)}")
    for label in (job, *names):
        if not 0 < len(label.encode("idna")) <= 63 or "." in label:
            raise ValueError(f"{label!r} does not fit a DNS label of 63 characters")

    authority_key = ec.generate_private_key(ec.SECP384R1())
    authority = _authority(authority_key)
    authority_text = authority.public_bytes(serialization.Encoding.PEM).decode()
    ppk = secrets.token_hex(32)

    credentials: dict[str, Credentials] = {}
    peers: dict[str, Peer] = {}
    for name, address in hosts:
        identity = f"{name}.{job}.phalanx"
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = _certificate(identity, name, key.public_key(), authority, authority_key)
        peers[name] = Peer(name, address, identity, certificate.fingerprint(hashes.SHA256()).hex())
        credentials[name] = Credentials(
            authority=authority_text,
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            private_key=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            ppk_id=PPK_ID,
            ppk=ppk,
        )
    return {
        name: MeshSpec(
            job=job,
            name=name,
            address=me.address,
            identity=me.identity,
            fingerprint=me.fingerprint,
            peers=tuple(peer for peer in peers.values() if peer.name != name),
            credentials=credentials[name],
            lifetimes=lifetimes,
            profile=profile,
        )
        for name, me in peers.items()
    }


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    # The random number keeps two jobs of one name apart: charon finds an issuer by its subject first.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Phalanx"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"job authority {secrets.token_hex(8)}"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALIDITY + SKEW)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _certificate(
    identity: str,
    name: str,
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    # The identity stands in the subjectAltName alone: it may be longer than the 64 characters of a common name.
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Phalanx"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
