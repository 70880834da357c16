"""What reports say of a job's encryption, and which of them show that it was there."""

from types import SimpleNamespace

import pytest

from phalanx.ipsec.model import MeshReport, PairReport
from phalanx.jobs.evidence import doubt, report, signed_summary, summary, with_attempt
from phalanx.jobs.plan import Placement, Plan
from phalanx.jobs.signature import Signer
from phalanx.network.model import Eni, GuardCounters, Watched
from phalanx.node.messages import Guards, Measurement


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path / "key")


STRONG = "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384"


def job_of(instances=2, **members):
    given = {
        "name": "job",
        "arn": "arn",
        "caller": "arn:me",
        "encrypted": True,
        "stage": "ended",
        "attempts": None,
        "created": 1,
    }
    given |= members
    return SimpleNamespace(instances=instances, **given)


def plan_of(instances=2, ran=True):
    hosts = range(1, instances + 1)
    return Plan("vpc-1", tuple(Placement(f"i-{n}", f"algo-{n}", Eni(f"eni-{n}", f"10.0.0.{n}", ())) for n in hosts), ran)


AES = ("AES_GCM_16", 256, True, True, STRONG)
NONE = ("", 0, False, False, "")


def measurement(
    host, machine, guard_esp, sent, negotiated=AES, wire=Watched(1, 2, 10), peers=("algo-1", "algo-2"), plane="engine"
):
    """Of an instance that has sent so many packets to each peer."""
    pairs = tuple(
        PairReport(host, peer, negotiated != NONE, *negotiated, "1", "2", sent, sent, 100, 100, 0, "aa", "bb")
        for peer in peers
        if peer != host
    )
    mesh = MeshReport(plane, pairs, 0, 0, {})
    return Measurement(f"i-{host}", host, mesh, GuardCounters(4, 400, guard_esp, 3000, 2, 100), machine, Guards(), wire)


def both(sent=10, **members):
    """Of a job's two instances on a host: what its router's guard has counted is what they sent."""
    return [measurement(host, "10.0.0.2", 2 * sent, sent, **members) for host in ("algo-1", "algo-2")]


@pytest.mark.parametrize(("esp", "gaps"), [((30, 12), 0), ((40, 11), 1), ((19, 40), 1)])
def test_each_machines_router_must_have_seen_what_was_sent_there(esp, gaps):
    hosts = ("algo-1", "algo-2", "algo-3")
    measured = [
        measurement("algo-1", "10.0.0.2", esp[0], 5, peers=hosts),
        measurement("algo-2", "10.0.0.2", esp[0], 5, peers=hosts),
        measurement("algo-3", "10.0.0.3", esp[1], 6, peers=hosts),
    ]
    made = report(job_of(3), plan_of(3), measured, [], {})
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
    job = job_of()
    job.evidence = signer.sign(report(job, plan_of(), both(negotiated=negotiated), [], {}))
    assert job.evidence["encrypted"] is (words is None)
    found = doubt(job, signer.public_key)
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("wire", "verdict", "words"),
    [
        (Watched(1000, 9000, esp=10, ike=4, neighbour=1), "all encrypted", None),
        (Watched(1000, 9000, esp=10, away=((2000, 3500),)), "encrypted while watched", None),
        (Watched(1000, 9000, esp=10, clear=1, away=((2000, 3500),)), "in the clear", "2 packets in the clear"),
        (None, None, "The wire of algo-1 was not watched"),
    ],
)
def test_what_was_captured_decides_what_is_believed(signer, wire, verdict, words):
    job = job_of()
    job.evidence = signer.sign(report(job, plan_of(), both(wire=wire), [], {}))
    capture = job.evidence["capture"]
    assert (None if capture is None else capture["verdict"]) == verdict
    assert capture is None or capture["milliseconds_away"] == 2 * sum(ended - begun for begun, ended in wire.away)
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
            "6 packets in the clear were seen on the wires of its instances in an",
        ),
    ],
)
def test_what_was_measured_of_earlier_attempts_counts_too(signer, gaps, wire, words):
    job = job_of()
    first = report(job, plan_of(), both(wire=wire), gaps, {})
    job.attempts = with_attempt(with_attempt(None, first), {**first, "earlier_attempts": [first]})
    job.evidence = signer.sign(report(job, plan_of(), both(20), [], {}))
    assert [each["pairs"] for each in job.evidence["earlier_attempts"]] == [first["pairs"]] * 2
    assert not any("earlier_attempts" in each for each in job.evidence["earlier_attempts"])
    told = summary(job.evidence)
    assert (told["attempts"], told["packets"], told["plaintext_packets_dropped"]) == (3, 80, 6)
    found = doubt(job, signer.public_key)
    assert found is None if words is None else words in found


def test_a_report_of_an_earlier_version_still_holds(signer):
    job = job_of()
    made = report(job, plan_of(), both(), [], {})
    for version, lacked in ((2, ("ran", "created")), (1, ("capture",))):
        made = {name: value for name, value in made.items() if name not in lacked}
        job.evidence = signer.sign({**made, "version": version})
        assert doubt(job, signer.public_key) is None


def test_only_what_the_service_has_signed_for_the_job_is_told_in_short(tmp_path, signer):
    job = job_of()
    made = report(job, plan_of(), both(), [], {})
    own = signer.sign(made)
    others = [
        None,
        signer.sign({**made, "created": 0}),
        signer.sign({name: value for name, value in {**made, "measured_at": 0}.items() if name != "created"}),
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
    first, _ = both()
    made = report(job_of(), plan_of(), [first], [], {})
    assert made["gaps"] == ["algo-2 was gone before it was measured."]
    assert made["encrypted"] is False


@pytest.mark.parametrize(("planes", "told"), [(("engine", "engine"), "engine"), (("kernel", "engine"), "engine, kernel")])
def test_each_instances_data_plane_is_told(planes, told):
    measured = [both(plane=plane)[index] for index, plane in enumerate(planes)]
    made = report(job_of(), plan_of(), measured, [], {})
    assert made["data_plane"] == told
    assert tuple(each["data_plane"] for each in made["instances"]) == planes
    assert report(job_of(), plan_of(ran=False), [], [], {})["data_plane"] is None


def plain(host):
    return Measurement(f"i-{host}", host, None, None)


@pytest.mark.parametrize(
    ("measured", "gaps"),
    [
        # Encryption as asked for in the store alone.
        ([plain("algo-1"), plain("algo-2")], ["algo-1 had neither IKE", "algo-2 had neither IKE"]),
        # IKE that failed over and over.
        (both(negotiated=NONE), ["association from algo-1 to algo-2", "association from algo-2 to algo-1"]),
        # A pair of which nobody told.
        ([both()[0], both(peers=())[1]], ["association from algo-2 to algo-1"]),
    ],
)
def test_what_was_asked_for_and_not_measured_is_no_evidence_of_encryption(signer, measured, gaps):
    job = job_of()
    job.evidence = made = signer.sign(report(job, plan_of(), measured, [], {}))
    assert [expected in gap for expected, gap in zip(gaps, made["gaps"], strict=True)] == [True] * len(gaps)
    assert (made["encryption_requested"], made["ran"], made["encrypted"]) == (True, True, False)
    assert "not measured of all instances" in made["note"]
    assert gaps[0] in doubt(job, signer.public_key)


@pytest.mark.parametrize("measured", [[], both(), both(negotiated=NONE)])
def test_a_job_whose_containers_were_never_started_had_nothing_to_encrypt(signer, measured):
    job = job_of()
    job.evidence = made = signer.sign(report(job, plan_of(ran=False), measured, [], {}))
    assert (made["ran"], made["encrypted"], made["gaps"]) == (False, False, [])
    assert made["note"].startswith("No training container was started: ")
    assert doubt(job, signer.public_key) is None
    # One whose engine or host did not come up: what is missing of it is told, and no reason to doubt it.
    job.evidence = made = signer.sign(report(job, plan_of(ran=False), both(wire=None), ["The engine of algo-3 is dead."], {}))
    assert made["gaps"][0] == "The engine of algo-3 is dead."
    assert doubt(job, signer.public_key) is None
    job.attempts = with_attempt(None, report(job, plan_of(), both(negotiated=NONE), [], {}))
    job.evidence = made = signer.sign(report(job, None, [], [], {}))
    assert made["note"].startswith("No training container was started in the last attempt: ")
    assert "in an earlier attempt: No security association" in doubt(job, signer.public_key)


def test_a_job_that_asked_for_nothing_is_not_encrypted(signer):
    job = job_of(encrypted=False)
    job.evidence = made = signer.sign(report(job, plan_of(), [plain("algo-1"), plain("algo-2")], [], {}))
    assert (made["encrypted"], made["gaps"]) == (False, [])
    # Somebody who writes to the store afterwards changes nothing.
    job.encrypted = True
    assert "does not say" in doubt(job, signer.public_key)
