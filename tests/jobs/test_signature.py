"""Signed reports: only an untouched one verifies."""

import json
import string

import pytest

from phalanx.jobs.signature import KeyFileError, Signer, Tampered, verify


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path / "key")


REPORT = {"job": "job", "pairs": [{"local": "algo-1", "bytes": 10, "ppk": True, "text": "ü"}], "data_plane": None}


def test_untouched_report_verifies_after_a_round_through_json(signer):
    assert verify(json.loads(json.dumps(signer.sign(REPORT), indent=2))) == signer.public_key


def test_key_is_kept_private_and_used_again(tmp_path, signer):
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert Signer(tmp_path / "key").public_key == signer.public_key


def test_the_key_is_on_the_disk_before_it_signs_and_is_refused_where_it_is_cut_short(tmp_path, signer, synced):
    Signer(tmp_path / "evidence.key")
    assert (tmp_path / "evidence.key").stat().st_ino in synced
    (tmp_path / "key").write_bytes(b"")
    with pytest.raises(KeyFileError, match="holds no key that signs reports"):
        Signer(tmp_path / "key")


def test_every_changed_byte_is_seen(signer):
    text = json.dumps(signer.sign(REPORT))
    accepted = []
    for index, character in enumerate(text):
        changed = text[:index] + chr(ord(character) ^ 1) + text[index + 1 :]
        try:
            verify(json.loads(changed))
            accepted.append(changed)
        except (Tampered, ValueError, RecursionError):
            continue
    assert accepted == []


@pytest.mark.parametrize("member", ["value", "public_key"])
def test_base64_that_stands_for_the_same_bytes_is_a_change_too(signer, member):
    report = signer.sign(REPORT)
    text = report["signature"][member]
    body, padding = text.rstrip("="), text[len(text.rstrip("=")) :]
    for digit in string.ascii_letters + string.digits + "+/":
        changed = body[:-1] + digit + padding
        if changed != text:
            with pytest.raises(Tampered):
                verify({**report, "signature": {**report["signature"], member: changed}})


def test_a_report_signed_by_another_service_is_not_ours(tmp_path, signer):
    other = Signer(tmp_path / "other")
    with pytest.raises(Tampered, match="signed by"):
        verify(other.sign(REPORT), signer.public_key)


@pytest.mark.parametrize(
    "signature", [None, {}, {"value": "x"}, {"value": "", "public_key": ""}, {"value": 1, "public_key": 2}]
)
def test_malformed_signatures_are_refused(signature):
    with pytest.raises(Tampered):
        verify({"job": "job", "signature": signature})
