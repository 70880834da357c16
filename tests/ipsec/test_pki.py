"""A job's keys: what the certificates say, and that nothing can make more of them."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from phalanx.ipsec import pki

HOSTS = [("algo-1", "10.0.0.1"), ("algo-2", "10.0.0.2"), ("algo-3", "10.0.0.3")]


def test_every_instance_knows_itself_and_its_peers() -> None:
    mesh = pki.issue_mesh("job", HOSTS)
    assert list(mesh) == ["algo-1", "algo-2", "algo-3"]
    for name, address in HOSTS:
        spec = mesh[name]
        assert (spec.job, spec.name, spec.address, spec.identity) == ("job", name, address, f"{name}.job.phalanx")
        assert [peer.name for peer in spec.peers] == [other for other, _ in HOSTS if other != name]
        for peer in spec.peers:
            assert (peer.address, peer.identity, peer.fingerprint) == (
                mesh[peer.name].address,
                mesh[peer.name].identity,
                mesh[peer.name].fingerprint,
            )


@pytest.mark.parametrize("job", ["j", "x" * 63])
def test_certificates_hold_before_an_independent_verifier(tmp_path: Path, job: str) -> None:
    for spec in pki.issue_mesh(job, HOSTS).values():
        (tmp_path / "ca.pem").write_text(spec.credentials.authority)
        (tmp_path / "me.pem").write_text(spec.credentials.certificate)
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "ca.pem", tmp_path / "me.pem"],
            check=True,
            capture_output=True,
        )
        certificate = x509.load_pem_x509_certificate(spec.credentials.certificate.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [f"{spec.name}.{job}.phalanx"]
        assert certificate.fingerprint(hashes.SHA256()).hex() == spec.fingerprint
        key = serialization.load_pem_private_key(spec.credentials.private_key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP384R1)
        assert key.public_key() == certificate.public_key()


def test_certificates_hold_for_the_longest_job_and_over_skewed_clocks() -> None:
    certificate = x509.load_pem_x509_certificate(pki.issue_mesh("job", HOSTS)["algo-1"].credentials.certificate.encode())
    now = datetime.datetime.now(datetime.UTC)
    assert now - certificate.not_valid_before_utc > datetime.timedelta(minutes=59)
    assert datetime.timedelta(days=28) < certificate.not_valid_after_utc - now < datetime.timedelta(days=31)


def test_two_jobs_share_nothing() -> None:
    first, second = (pki.issue_mesh("job", HOSTS)["algo-1"].credentials for _ in range(2))
    assert first.ppk != second.ppk
    assert first.authority != second.authority
    assert len(bytes.fromhex(first.ppk)) == 32


def test_secrets_are_not_printed() -> None:
    spec = pki.issue_mesh("job", HOSTS)["algo-1"]
    assert spec.credentials.ppk not in repr(spec)
    assert "PRIVATE" not in repr(spec)


@pytest.mark.parametrize(
    ("job", "hosts"),
    [
        ("job", [("algo-1", "10.0.0.1"), ("algo-1", "10.0.0.2")]),
        ("job", [("algo-1", "10.0.0.1"), ("algo-2", "10.0.0.1")]),
        ("x" * 64, HOSTS),
        ("", HOSTS),
        ("a.b", HOSTS),
    ],
)
def test_what_does_not_fit_is_refused(job: str, hosts: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError):
        pki.issue_mesh(job, hosts)
