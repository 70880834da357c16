"""XFRM message in, state out: what charon and `ip xfrm` may ask and what they are told."""

import errno
import struct
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP

from phalanx.ipsec.engine import messages as xfrm
from phalanx.ipsec.engine.messages import Direction, Refused, Type
from phalanx.ipsec.engine.tables import ACQUIRE_SECONDS, Usage
from phalanx.ipsec.plane import Association, Totals

from .requests import (
    DUMP,
    KEY,
    OWN,
    PEER,
    REQUEST,
    WRONG_POLICY,
    WRONG_SA,
    Instance,
    address,
    ae_id,
    aead,
    alloc_spi,
    attribute,
    error_of,
    limits,
    message,
    new_sa,
    policy,
    policy_id,
    replay,
    sa_id,
    selector,
    usersa,
)  # fmt: skip

SPI = 0xC0000001


def allocated(answers) -> int:
    (answer,) = answers
    assert struct.unpack_from("=H", answer, 4)[0] == Type.NEWSA
    return struct.unpack_from(">I", answer, 16 + 72)[0]


def described(answer) -> tuple[xfrm.SaInfo, dict]:
    """An answer that is an SA."""
    header, body = xfrm.parse_header(answer)
    assert header.type == Type.NEWSA
    return xfrm.parse_sa(body), dict(xfrm.parse_attributes(body, xfrm.SA_SIZE))


def test_an_allocated_spi_becomes_an_sa_by_update(instance):
    spi = allocated(instance.ask(alloc_spi(0xC0000000, 0xCFFFFFFF)))
    assert 0xC0000000 <= spi <= 0xCFFFFFFF
    assert error_of(instance.ask(new_sa(spi))) == errno.EEXIST
    instance.do(new_sa(spi, kind=Type.UPDSA))
    info, attributes = described(instance.ask(sa_id(Type.GETSA, spi, flags=REQUEST))[0])
    assert (info.spi, info.reqid, info.mode, info.flags) == (spi, 7, 1, 0xA0)
    assert bytes(attributes[18][72:]) == KEY  # GETSA returns keys, as the kernel does
    instance.do(sa_id(Type.DELSA, spi))
    assert error_of(instance.ask(sa_id(Type.GETSA, spi))) == errno.ESRCH


def test_counts_that_no_longer_fit_into_a_message_wrap(instance, monkeypatch):
    instance.do(new_sa(SPI))
    monkeypatch.setattr(instance.tables, "usage", lambda _sa: Usage(replays=2**32 + 5, integrity_failures=2**33 + 6))
    (answer,) = instance.ask(sa_id(Type.GETSA, SPI, flags=REQUEST))
    assert struct.unpack_from("=3I", answer, 16 + 192) == (0, 5, 6)


def test_update_of_what_was_not_allocated_falls_back_to_new(instance):
    assert error_of(instance.ask(new_sa(SPI, kind=Type.UPDSA))) == errno.ESRCH
    instance.do(new_sa(SPI))


def test_an_spi_range_that_is_used_up(instance):
    taken = {allocated(instance.ask(alloc_spi(500, 502))) for _ in range(3)}
    assert taken == {500, 501, 502}
    assert error_of(instance.ask(alloc_spi(500, 502))) == errno.ENOENT
    assert error_of(instance.ask(alloc_spi(3, 2))) == errno.EINVAL


def test_spis_that_wait_in_vain_expire(instance):
    spi = allocated(instance.ask(alloc_spi()))
    assert instance.tables.deadline() == instance.now + ACQUIRE_SECONDS
    assert instance.dispatcher.events(instance.now + ACQUIRE_SECONDS - 1) == []
    ((group, event),) = instance.dispatcher.events(instance.now + ACQUIRE_SECONDS)
    assert (group, struct.unpack_from("=H", event, 4)[0], event[16 + 224]) == (2, Type.EXPIRE, 1)
    assert error_of(instance.ask(new_sa(spi, kind=Type.UPDSA))) == errno.ESRCH


@pytest.mark.parametrize("name", WRONG_SA)
def test_sas_that_are_not_carried(instance, name):
    fields, expected = WRONG_SA[name]
    assert error_of(instance.ask(new_sa(SPI, **fields))) == expected
    assert instance.tables.associations() == []
    assert expected not in (errno.EBUSY,)  # charon would try for ever
    assert len(instance.dispatcher.refusals) == 1  # the log says why


def test_what_later_kernels_and_daemons_add_is_understood(instance):
    instance.do(new_sa(SPI, attributes=aead() + replay() + attribute(33, b"\1") + attribute(24, b"\1\0\0\0")))
    assert not instance.tables.associations()[0].copy_dscp


@pytest.mark.parametrize("name", WRONG_POLICY)
def test_policies_that_are_not_kept(instance, name):
    fields, expected = WRONG_POLICY[name]
    assert error_of(instance.ask(policy(Direction.IN, **fields))) == expected
    assert instance.tables.policies() == []


def test_policy_life(instance):
    assert error_of(instance.ask(policy(3))) == errno.EINVAL
    instance.do(policy(Direction.OUT, SPI, priority=9))
    assert error_of(instance.ask(policy(Direction.OUT, SPI))) == errno.EEXIST
    index = instance.tables.policies()[0].index
    instance.do(policy(Direction.OUT, SPI + 1, kind=Type.UPDPOLICY, priority=5))
    (answer,) = instance.ask(policy_id(Type.GETPOLICY, Direction.OUT, flags=REQUEST))
    kept = xfrm.parse_policy_request(xfrm.parse_header(answer)[1])
    assert (kept.priority, kept.templates[0].spi, kept.templates[0].reqid) == (5, SPI + 1, 7)
    assert instance.tables.policies()[0].index == index
    instance.do(policy_id(Type.DELPOLICY, Direction.OUT, sel=selector(), index=index))
    assert error_of(instance.ask(policy_id(Type.GETPOLICY, Direction.OUT))) == errno.ENOENT
    assert error_of(instance.ask(policy_id(Type.DELPOLICY, Direction.OUT))) == errno.ENOENT


def test_a_repeated_request_is_answered_again_and_changes_nothing(instance):
    for request in (alloc_spi(seq=200), new_sa(SPI, seq=201), policy(Direction.OUT, seq=202)):
        first = instance.dispatcher.handle(request, "charon", 0)
        assert instance.dispatcher.handle(request, "charon", 1) == first
    assert len(instance.tables.associations()) == len(instance.tables.policies()) == 1
    gone = sa_id(Type.DELSA, SPI, seq=203)
    assert [error_of(instance.dispatcher.handle(gone, "charon", 2)) for _ in range(2)] == [0, 0]
    # Another connection, or another number, is another request.
    assert error_of(instance.dispatcher.handle(gone, "ip", 3)) == errno.ESRCH
    assert error_of(instance.dispatcher.handle(sa_id(Type.DELSA, SPI, seq=204), "charon", 3)) == errno.ESRCH


def test_acknowledgements_and_errors_do_not_echo_keys(instance):
    for flags in (REQUEST, REQUEST | 4):
        request = message(Type.NEWSA, usersa(SPI, PEER, OWN) + aead() + replay(), 9, flags)
        answers = instance.ask(request) + instance.ask(request)
        assert all(KEY not in bytes(answer) for answer in answers)
    assert instance.ask(message(Type.NEWSPDINFO, bytes(4), 5, REQUEST)) == []


def test_flags_of_a_dump_mean_no_dump_to_what_makes_something(instance):
    assert error_of(instance.ask(message(Type.NEWSPDINFO, bytes(4), 5, REQUEST | 4 | DUMP))) == 0


def test_dumps_and_counts(instance):
    instance.establish()
    sas = instance.ask(message(Type.GETSA, bytes(24), 3, REQUEST | DUMP))
    assert [struct.unpack_from("=HH", answer, 4) for answer in sas] == [(Type.NEWSA, 2), (Type.NEWSA, 2), (3, 2)]
    policies = instance.ask(message(Type.GETPOLICY, bytes(64), 3, REQUEST | DUMP))
    assert [struct.unpack_from("=H", answer, 4)[0] for answer in policies] == [Type.NEWPOLICY] * 3 + [3]
    (sad,) = instance.ask(message(Type.GETSADINFO, bytes(4), 3, REQUEST))
    assert struct.unpack_from("=HHI", sad, 20) == (8, 1, 2)
    (spd,) = instance.ask(message(Type.GETSPDINFO, bytes(4), 3, REQUEST))
    assert struct.unpack_from("=HH3I", spd, 20) == (28, 1, 1, 1, 1)


def test_replay_state(instance):
    instance.establish()
    instance.core.pass_packet(Direction.OUT, bytes(IP(src=OWN, dst=PEER) / ICMP()))
    answer = instance.ask(ae_id(0xC0000002, destination=PEER))[0]
    assert struct.unpack_from("=H", answer, 4)[0] == Type.NEWAE
    attributes = xfrm.parse_attributes(answer, 16 + 48)
    assert struct.unpack_from("=6I", attributes[23])[1] == 1
    assert struct.unpack_from("=2Q", attributes[9]) == (28, 1)


def test_a_connection_takes_along_what_it_made(instance):
    instance.establish()
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    assert not isinstance(instance.core.pass_packet(Direction.OUT, plain), str)
    instance.dispatcher.release("ip")
    assert len(instance.tables.associations()) == 2
    assert instance.dispatcher.release("charon") == 5
    assert instance.core.pass_packet(Direction.OUT, plain) == "out_no_policy"
    assert instance.tables.associations() == instance.tables.policies() == []


def test_flushes(instance):
    instance.establish()
    instance.do(message(Type.FLUSHSA, b"\x33"))  # AH: nothing
    assert len(instance.tables.associations()) == 2
    instance.do(message(Type.FLUSHSA, b"\0"), message(Type.FLUSHPOLICY, b""))
    assert instance.tables.associations() == instance.tables.policies() == []
    assert instance.core.pass_packet(Direction.OUT, bytes(IP(src=OWN, dst=PEER) / ICMP())) == "out_no_policy"


def test_keys_are_wiped_with_their_sa(instance):
    instance.establish()
    keys = [sa.key for sa in instance.tables.associations()]
    instance.do(sa_id(Type.DELSA, 0xC0000001))
    instance.dispatcher.release("charon")
    assert all(key == bytes(36) for key in keys)


def expired(events) -> list[tuple[int, int]]:
    assert all(group == 2 and struct.unpack_from("=H", event, 4)[0] == Type.EXPIRE for group, event in events)
    return [(struct.unpack_from(">I", event, 16 + 72)[0], event[16 + 224]) for _, event in events]


def test_lifetime_in_seconds(instance):
    instance.do(new_sa(SPI, life=limits(soft=60, hard=90)))
    at, added = instance.dispatcher.events, instance.now
    assert (at(added + 59), instance.tables.deadline()) == ([], added + 60)
    assert (expired(at(added + 60)), at(added + 61)) == ([(SPI, 0)], [])
    assert instance.tables.deadline() == added + 90
    assert expired(at(added + 90)) == [(SPI, 1)]
    assert instance.tables.associations() == []
    assert instance.tables.deadline() is None


def test_lifetime_in_packets(instance):
    instance.establish(life=limits(soft_packets=2, hard_packets=3))
    plain, seen = bytes(IP(src=OWN, dst=PEER) / ICMP()), []
    for _ in range(5):
        instance.core.pass_packet(Direction.OUT, plain)
        seen.append(expired([event for event in instance.dispatcher.events(0) if event[0] == 2]))
    assert seen == [[], [(0xC0000002, 0)], [], [(0xC0000002, 1)], []]
    assert instance.drops() == {"out_lifetime": 1, "out_no_sa": 1}


def test_new_limits_for_an_sa_that_is_there(instance):
    instance.do(new_sa(SPI), new_sa(SPI, kind=Type.UPDSA, life=limits(hard=5)))
    assert described(instance.ask(sa_id(Type.GETSA, SPI, flags=REQUEST))[0])[0].limits.hard_seconds == 5
    assert error_of(instance.ask(new_sa(SPI, kind=Type.UPDSA, key=KEY[::-1]))) == errno.EINVAL
    assert expired(instance.dispatcher.events(instance.now + 5)) == [(SPI, 1)]


def test_a_flow_without_sa_is_asked_for_once(instance):
    instance.do(policy(Direction.OUT))
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    for _ in range(3):
        instance.core.pass_packet(Direction.OUT, plain)
    ((group, event),) = instance.dispatcher.events(instance.now)
    assert (group, struct.unpack_from("=H", event, 4)[0], len(event)) == (1, Type.ACQUIRE, 16 + 280 + 4 + 64)
    asked = xfrm.parse_selector(event[16 + 40 :])
    assert (asked.source[:4], asked.destination[:4]) == (address(OWN)[:4], address(PEER)[:4])
    assert (asked.source_prefix, asked.destination_prefix) == (32, 32)
    instance.core.pass_packet(Direction.OUT, plain)
    assert instance.dispatcher.events(instance.now + 1) == []
    # With an SA and without it again, it is a new question.
    instance.do(policy(Direction.OUT, kind=Type.UPDPOLICY))
    instance.core.pass_packet(Direction.OUT, plain)
    assert len(instance.dispatcher.events(instance.now + 2)) == 1


def test_an_outbound_sa_has_no_window_where_it_says_its_direction(instance):
    """As strongSwan 6 asks for it, and Linux 6.10 takes it; without a direction the kernel refuses."""
    none = aead() + replay(0)
    assert error_of(instance.ask(new_sa(SPI, OWN, PEER, attributes=none))) == errno.EINVAL
    assert error_of(instance.ask(new_sa(SPI, attributes=none + attribute(33, b"\1")))) == errno.EINVAL
    assert error_of(instance.ask(new_sa(SPI, OWN, PEER, attributes=none + attribute(33, b"\2")))) == 0


def test_report_sums_over_deleted_sas(instance):
    plain = bytes(IP(src=OWN, dst=PEER) / ICMP())
    instance.establish()
    for spi in (0xC0000002, 0xC0000012, 0xC0000022):
        if spi != 0xC0000002:
            instance.do(new_sa(spi, OWN, PEER, window=1), policy(Direction.OUT, spi, kind=Type.UPDPOLICY))
            instance.do(sa_id(Type.DELSA, spi - 16, PEER))
        instance.core.pass_packet(Direction.OUT, plain)
    report = instance.tables.report()
    assert report["pairs"] == [{"remote": PEER, **asdict(Totals(packets_out=3, bytes_out=84, installed=3))}]
    assert sorted(report["flows"]) == [(OWN, PEER), (PEER, OWN)]
    assert report["associations"] == [
        asdict(Association(SPI, PEER, OWN, "AES_GCM_16", 256, True)),
        asdict(Association(0xC0000022, OWN, PEER, "AES_GCM_16", 256, True)),
    ]


@settings(max_examples=400)
@given(data=st.data())
def test_hostile_messages_are_refused_not_crashed_on(data):
    instance = Instance()
    instance.establish()
    samples = [new_sa(SPI + 5), alloc_spi(), sa_id(Type.GETSA, SPI), policy(Direction.OUT, 1, kind=Type.UPDPOLICY),
               policy_id(Type.GETPOLICY, 1), message(Type.FLUSHSA, b""), message(Type.GETSPDINFO, b"")]  # fmt: skip
    request = bytearray(data.draw(st.sampled_from(samples)))
    request[4:6] = struct.pack("=H", data.draw(st.integers(0, 0x40)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(16, 600), st.integers(0, 255)), max_size=12)):
        if at < len(request):
            request[at] = value
    request = request[: data.draw(st.integers(0, len(request)))]
    if len(request) >= 4 and data.draw(st.booleans()):
        request[:4] = struct.pack("=I", len(request))
    try:
        for answer in instance.dispatcher.handle(bytes(request), "hostile", 0):
            xfrm.parse_header(answer)
    except Refused:
        pass
    finally:
        instance.core.close()
