"""Signed reports: only an untouched one verifies."""

import json
from types import SimpleNamespace

import pytest

from phalanx.ipsec.model import MeshReport, PairReport
from phalanx.jobs.evidence import Signer, Tampered, doubt, report, signed_summary, summary, verify, with_attempt
from phalanx.network.model import GuardCounters, Watched
from phalanx.node.messages import Guards, Measurement


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path / "key")


REPORT = {"job": "job", "pairs": [{"local": "algo-1", "bytes": 10, "ppk": True, "text": "ü"}], "data_plane": None}


def test_untouched_report_verifies_after_a_round_through_json(signer):
    assert verify(json.loads(json.dumps(signer.sign(REPORT), indent=2))) == signer.public_key


def test_key_is_kept_private_and_used_again(tmp_path, signer):
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert Signer(tmp_path / "key").public_key == signer.public_key


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


STRONG = "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384"


def measurement(host, machine, guard_esp, sent, negotiated=("AES_GCM_16", 256, True, True, STRONG), wire=Watched(1, 2, 10)):
    pair = PairReport(
        *(host, "algo-9", True, *negotiated, "1", "2"),
        *(sent, sent, 100, 100, 0, "aa", "bb"),
    )
    mesh = MeshReport("engine", (pair,), 0, 0, {})
    return Measurement(f"i-{host}", host, mesh, GuardCounters(4, 400, guard_esp, 3000, 2, 100), machine, Guards(), wire)


@pytest.mark.parametrize(("esp", "gaps"), [((30, 12), 0), ((40, 11), 1), ((19, 40), 1)])
def test_each_machines_router_must_have_seen_what_was_sent_there(esp, gaps):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=3, attempts=None)
    measured = [
        measurement("algo-1", "10.0.0.2", esp[0], 10),
        measurement("algo-2", "10.0.0.2", esp[0], 10),
        measurement("algo-3", "10.0.0.3", esp[1], 12),
    ]
    made = report(job, None, measured, [], {})
    assert len(made["gaps"]) == gaps
    # One router's counters are taken once, different ones' together.
    assert made["router_guard"]["esp_packets"] == sum(esp)
    assert made["plaintext_packets_dropped"] == 4


@pytest.mark.parametrize(
    ("negotiated", "words"),
    [
        (("AES_GCM_16", 256, True, True, STRONG), None),
        (("AES_GCM_16", 256, True, True, "AES_GCM_16-256/PRF_HMAC_SHA2_512/ECP_384/ML_KEM_1024"), None),
        (("AES_GCM_16", 128, True, True, STRONG), "128 bits"),
        (("AES_CBC", 256, True, True, STRONG), "ESP AES_CBC"),
        (("AES_GCM_16", 256, False, True, STRONG), "without ESN"),
        (("AES_GCM_16", 256, True, False, STRONG), "without PPK"),
        (("AES_GCM_16", 256, True, True, "AES_GCM_16-256/PRF_HMAC_SHA2_384/CURVE_25519"), "CURVE_25519"),
        (("AES_GCM_16", 256, True, True, "AES_GCM_16-256/PRF_HMAC_SHA2_256/ECP_384"), "SHA2_256"),
        (("AES_GCM_16", 256, True, True, f"{STRONG}/ML_KEM_512"), "ML_KEM_512"),
        (("AES_GCM_16", 256, True, True, ""), "IKE unknown"),
    ],
)
def test_what_is_weaker_than_the_house_negotiates_is_no_evidence_of_encryption(signer, negotiated, words):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=2, stage="ended", attempts=None)
    job.evidence = signer.sign(report(job, None, [measurement("algo-1", "10.0.0.2", 10, 10, negotiated)], [], {}))
    found = doubt(job, signer.public_key)
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("wire", "verdict", "words"),
    [
        (Watched(1000, 9000, esp=10, ike=4, neighbour=1), "all encrypted", None),
        (Watched(1000, 9000, esp=10, away=((2000, 3500),)), "encrypted while watched", None),
        (Watched(1000, 9000, esp=10, clear=1, away=((2000, 3500),)), "in the clear", "1 packets in the clear"),
        (None, None, "The wire of algo-1 was not watched"),
    ],
)
def test_what_was_captured_decides_what_is_believed(signer, wire, verdict, words):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=2, stage="ended", attempts=None)
    job.evidence = signer.sign(report(job, None, [measurement("algo-1", "10.0.0.2", 10, 10, wire=wire)], [], {}))
    capture = job.evidence["capture"]
    assert (None if capture is None else capture["verdict"]) == verdict
    assert capture is None or capture["milliseconds_away"] == sum(ended - begun for begun, ended in wire.away)
    found = doubt(job, signer.public_key)
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("gaps", "wire", "words"),
    [
        ([], Watched(1000, 9000, esp=10), None),
        (["algo-2 was gone before it was measured."], Watched(1000, 9000, esp=10), "in an earlier attempt: algo-2 was gone"),
        (
            [],
            Watched(1000, 9000, esp=10, clear=3),
            "3 packets in the clear were seen on the wires of its instances in an",
        ),
    ],
)
def test_what_was_measured_of_earlier_attempts_counts_too(signer, gaps, wire, words):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=2, stage="ended", attempts=None)
    first = report(job, None, [measurement("algo-1", "10.0.0.2", 10, 10, wire=wire)], gaps, {})
    job.attempts = with_attempt(with_attempt(None, first), {**first, "earlier_attempts": [first]})
    job.evidence = signer.sign(report(job, None, [measurement("algo-1", "10.0.0.3", 20, 20)], [], {}))
    assert [each["pairs"] for each in job.evidence["earlier_attempts"]] == [first["pairs"]] * 2
    assert not any("earlier_attempts" in each for each in job.evidence["earlier_attempts"])
    told = summary(job.evidence)
    assert (told["attempts"], told["packets"], told["plaintext_packets_dropped"]) == (3, 40, 6)
    found = doubt(job, signer.public_key)
    assert found is None if words is None else words in found


def test_a_report_of_an_earlier_version_still_holds(signer):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=2, stage="ended", attempts=None)
    made = report(job, None, [measurement("algo-1", "10.0.0.2", 10, 10)], [], {})
    del made["capture"]
    job.evidence = signer.sign({**made, "version": 1})
    assert doubt(job, signer.public_key) is None


def test_only_what_the_service_has_signed_for_the_job_is_told_in_short(tmp_path, signer):
    job = SimpleNamespace(name="job", arn="arn", caller="arn:me", encrypted=True, instances=2, stage="ended", attempts=None)
    made = report(job, None, [measurement("algo-1", "10.0.0.2", 10, 10)], [], {})
    own = signer.sign(made)
    others = [
        None,
        {"job": "x"},
        {**own, "pairs": []},
        Signer(tmp_path / "other").sign(made),
        signer.sign({**made, "job": "x"}),
    ]
    for job.evidence in others:
        assert signed_summary(job, signer.public_key) is None
        assert doubt(job, signer.public_key) is not None
    job.evidence = own
    assert signed_summary(job, signer.public_key) == summary(own)


def test_an_instance_that_was_gone_before_it_was_measured_leaves_a_gap():
    job = SimpleNamespace(name="job", arn="arn", caller="me", encrypted=True, instances=2, training_started=1, attempts=None)
    eni = SimpleNamespace(id="eni-1", address="10.0.0.4", groups=())
    placements = [SimpleNamespace(host=f"algo-{number}", id=f"i-{number}", eni=eni) for number in (1, 2)]
    made = report(job, SimpleNamespace(placements=placements), [measurement("algo-1", "", 10, 10)], [], {})
    assert made["gaps"] == ["algo-2 was gone before it was measured."]
