"""A real peer with the job's own keys that offers less: nothing weaker than AES-256-GCM, SHA-384 and P-384 is agreed on."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from vici.exception import CommandException

from ipsec.lab import Wire, eventually
from phalanx.ipsec import charon, pki
from phalanx.ipsec.charon import Charon
from phalanx.ipsec.errors import MeshError

(STRONG_IKE,), (STRONG_ESP,) = charon.proposals("standard", hybrid=False)
WEAKER = {
    "a 128-bit key for IKE": {"proposals": ["aes128gcm16-prfsha384-ecp384"]},
    "a 192-bit key for IKE": {"proposals": ["aes192gcm16-prfsha384-ecp384"]},
    "a short ICV for IKE": {"proposals": ["aes256gcm8-prfsha384-ecp384"]},
    "CBC for IKE": {"proposals": ["aes256-sha384-ecp384"]},
    "SHA-256 as PRF": {"proposals": ["aes256gcm16-prfsha256-ecp384"]},
    "SHA-1 as PRF": {"proposals": ["aes256gcm16-prfsha1-ecp384"]},
    "Curve25519": {"proposals": ["aes256gcm16-prfsha384-curve25519"]},
    "P-256": {"proposals": ["aes256gcm16-prfsha384-ecp256"]},
    "MODP 2048": {"proposals": ["aes256gcm16-prfsha384-modp2048"]},
    "all that strongSwan has by default for IKE, but for ours": {
        "proposals": ["aes128-sha256-modp3072", "aes256-sha256-modp2048", "aes128gcm16-prfsha256-ecp256"]
    },
    "a 128-bit key for ESP": {"esp_proposals": ["aes128gcm16-esn"]},
    "a short ICV for ESP": {"esp_proposals": ["aes256gcm8-esn"]},
    "CBC for ESP": {"esp_proposals": ["aes256-sha384-esn"]},
    "no encryption in ESP (NULL)": {"esp_proposals": ["null-sha384-esn"]},
    "authentication alone in ESP (GMAC)": {"esp_proposals": ["aes256gmac-esn"]},
    "no extended sequence numbers": {"esp_proposals": ["aes256gcm16-noesn"]},
    "IKEv1": {"version": "1", "proposals": ["aes256-sha384-ecp384"]},
    "no PPK": {"ppk_id": None, "ppk_required": None},
    "a signature with SHA-256": {"auth": "ecdsa-384-sha256"},
}
"""What the peer does otherwise than it should."""


def offering(specs, name, **changes):
    """The connection of an instance to its peer, with changes."""
    spec = specs[name]
    (peer,) = spec.peers
    connection = charon.connection(spec, peer)
    child = connection["children"][peer.name]
    for key, value in changes.items():
        if key == "auth":
            connection["local"] = {**connection["local"], "auth": value}
        elif key == "esp_proposals":
            child[key] = value
        elif value is None:
            del connection[key]
        else:
            connection[key] = value
    return {peer.name: connection}


def initiate(session, name):
    """Whether IKE_SA and CHILD_SA with the peer come up."""
    with contextlib.suppress(CommandException):
        for _ in session.initiate({"ike": name, "child": name, "timeout": "1500", "init-limits": "no"}):
            pass
        return True
    return False


@pytest.mark.parametrize("weak", ["algo-1", "algo-2"], ids=["begins", "answers"])
def test_nothing_weaker_is_agreed_on_with_a_downgrading_peer(wire: Wire, weak: str) -> None:
    """Whoever of the two begins, the strict side is as the platform makes it."""
    one, two = wire.hosts
    specs = wire.mesh(connect=False)
    bent, strict = (one, two) if weak == "algo-1" else (two, one)
    capture = wire.capture()
    agreed = []
    for case, changes in WEAKER.items():
        with Charon(bent.space, bent.rundir)._session() as session, Charon(one.space, one.rundir)._session() as begins:
            if "ppk_id" in changes:
                # Else it would be found by the name that the other side says.
                session.unload_shared({"id": "ppk"})
            session.load_conn(offering(specs, weak, **changes))
            if initiate(begins, "algo-2"):
                agreed.append(case)
            # The one that answers knows better than the one that began only a moment later.
            if not eventually(lambda: not strict.member.established(), 5):
                agreed.append(f"{case}, at the strict side")
            for ike in ("algo-1", "algo-2"):
                with contextlib.suppress(CommandException):
                    list(session.terminate({"ike": ike, "force": "yes", "timeout": "-1"}))
            keys = specs[weak].credentials
            session.load_shared({"id": "ppk", "type": "ppk", "data": bytes.fromhex(keys.ppk), "owners": [keys.ppk_id]})
    assert agreed == []
    # The twin: of an offer that holds ours as well, ours is taken, however late it comes, and all is well.
    with Charon(bent.space, bent.rundir)._session() as session, Charon(one.space, one.rundir)._session() as begins:
        proposals = ["aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha256-ecp384", STRONG_IKE]
        session.load_conn(offering(specs, weak, proposals=proposals, esp_proposals=["aes128gcm16-noesn", STRONG_ESP]))
        assert initiate(begins, "algo-2")
    assert eventually(lambda: one.reaches(two))
    (pair,) = strict.member.measure().pairs
    assert (pair.algorithm, pair.key_bits, pair.esn, pair.ppk) == ("AES_GCM_16", 256, True, True)
    assert pair.ike == "AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384"
    assert capture.plaintext() == []


@pytest.mark.parametrize("weak", ["aes256gcm16-esn", "aes256gcm16-ecp256-esn", "aes256gcm16-curve25519-esn"])
def test_keys_are_renewed_with_an_exchange_on_p384_or_not_at_all(wire: Wire, weak: str) -> None:
    """The first CHILD_SA's keys come from IKE's own exchange, so a peer that would take less shows only when it rekeys."""
    one, two = wire.hosts
    specs = wire.mesh(connect=False)
    with Charon(one.space, one.rundir)._session() as bent:
        bent.load_conn(offering(specs, "algo-1", esp_proposals=[weak]))
        assert initiate(bent, "algo-2")
    assert eventually(lambda: two.member.established())
    for host, peer in ((one, "algo-2"), (two, "algo-1")):
        with contextlib.suppress(MeshError, CommandException):
            host.rekey(peer)
    assert eventually(lambda: "NO_PROP" in log(one) and "NO_PROP" in log(two))
    assert [pair.rekeys for host in (one, two) for pair in host.member.measure().pairs] == [0, 0]
    # The twin: the same pair renews its keys once both offer the same.
    with Charon(one.space, one.rundir)._session() as mended:
        mended.load_conn(offering(specs, "algo-1"))
        list(mended.terminate({"ike": "algo-2", "force": "yes", "timeout": "-1"}))
        assert eventually(lambda: initiate(mended, "algo-2"))
    assert eventually(lambda: two.member.established())
    one.rekey("algo-2")
    assert eventually(lambda: [pair.rekeys for pair in two.member.measure().pairs] == [2])


def log(host):
    return (host.rundir / "charon.log").read_text()


def test_cnsa_is_its_own_suite_and_takes_no_other(wire: Wire) -> None:
    one, two = wire.hosts
    strict = pki.issue_mesh("job", [(host.name, host.address) for host in wire.hosts], profile="cnsa")
    wire.mesh(specs=strict)
    for host in wire.hosts:
        (pair,) = host.member.measure().pairs
        assert pair.strong
        assert pair.ike == "AES_GCM_16-256/PRF_HMAC_SHA2_512/ECP_384"
    assert one.reaches(two)
    # A peer of the other profile, with the same keys.
    with Charon(one.space, one.rundir)._session() as other:
        list(other.terminate({"ike": "algo-2", "force": "yes", "timeout": "-1"}))
        other.load_conn(offering({"algo-1": replace(strict["algo-1"], profile="standard")}, "algo-1"))
        assert not initiate(other, "algo-2")
    assert "NO_PROPOSAL_CHOSEN" in log(one)
    assert not two.member.established()


def test_ml_kem_is_offered_first_where_the_daemon_has_it_and_alone_under_cnsa() -> None:
    hybrid = "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024", "aes256gcm16-ecp384-ke1_mlkem1024-esn"
    assert charon.proposals("standard", hybrid=True) == ([hybrid[0], STRONG_IKE], [hybrid[1], STRONG_ESP])
    assert charon.proposals("cnsa", hybrid=True) == (["aes256gcm16-prfsha512-ecp384-ke1_mlkem1024"], [hybrid[1]])
    assert charon.proposals("cnsa", hybrid=False) == (["aes256gcm16-prfsha512-ecp384"], [STRONG_ESP])


@pytest.mark.parametrize(
    ("algorithms", "first"),
    [
        ({"ke": {"ECP_384": b"openssl", "ML_KEM_1024": b"ml"}}, "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024"),
        ({"ke": {"ECP_384": b"openssl", "ML_KEM_768": b"ml"}}, STRONG_IKE),
        ({"dh": {"ECP_384": b"openssl"}}, STRONG_IKE),
    ],
    ids=["strongSwan 6 with ML-KEM", "strongSwan 6 without", "strongSwan 5.9.8"],
)
def test_the_daemon_is_asked_what_it_has(monkeypatch, tmp_path, algorithms, first) -> None:
    """By a stand-in for VICI: Debian 12 has no strongSwan 6."""
    loaded = {}
    session = SimpleNamespace(
        get_conns=lambda: {"conns": []},
        get_algorithms=lambda: algorithms,
        load_key=lambda given: None,
        load_shared=lambda given: None,
        load_conn=loaded.update,
    )
    monkeypatch.setattr(Charon, "_session", lambda self: contextlib.nullcontext(session))
    specs = pki.issue_mesh("job", [("algo-1", "10.0.0.1"), ("algo-2", "10.0.0.2")])
    Charon("space", tmp_path).load(specs["algo-1"])
    assert loaded["algo-2"]["proposals"][0] == first
