"""A real peer with the job's own keys that offers less: nothing weaker than AES-256-GCM, SHA-384 and P-384 is agreed on."""

from __future__ import annotations

import contextlib

import pytest
from vici.exception import CommandException

from ipsec.lab import Wire, eventually
from phalanx.ipsec import charon
from phalanx.ipsec.charon import Charon

STRONG_IKE, STRONG_ESP = charon.PROPOSAL_IKE, charon.PROPOSAL_ESP
WEAKER = {
    "a 128-bit key for IKE": {"proposals": ["aes128gcm16-prfsha384-ecp384"]},
    "a 192-bit key for IKE": {"proposals": ["aes192gcm16-prfsha384-ecp384"]},
    "a short ICV for IKE": {"proposals": ["aes256gcm8-prfsha384-ecp384"]},
    "CBC for IKE": {"proposals": ["aes256-sha384-ecp384"]},
    "SHA-256 as PRF": {"proposals": ["aes256gcm16-prfsha256-ecp384"]},
    "SHA-1 as PRF": {"proposals": ["aes256gcm16-prfsha1-ecp384"]},
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
