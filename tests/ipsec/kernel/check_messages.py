"""In the virtual machine: the same XFRM messages to the kernel and to the engine's tables, and what each answers."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from ipsec.engine.requests import (
    DUMP,
    KEY,
    OWN,
    PEER,
    REQUEST,
    WRONG_POLICY,
    WRONG_SA,
    Instance,
    ae_id,
    alloc_spi,
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
from ipsec.lab import run
from phalanx.ipsec import netns
from phalanx.ipsec.engine import messages as xfrm
from phalanx.ipsec.engine.messages import Direction, Type
from phalanx.ipsec.engine.tables import ACQUIRE_SECONDS

SPI = 0xC0000001
SPACE = "phxt-messages"
IN, OUT, FWD = Direction


class Both:
    """The kernel's tables of a new namespace, and the engine's without a wire."""

    def __init__(self) -> None:
        self.kernel = netns.inside(SPACE, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6))
        self.kernel.settimeout(5)
        self.engine = Instance(OWN)
        self._sequence = 0

    def ask(self, request: bytes) -> tuple[list, list]:
        """What the answers of the two mean."""
        self._sequence += 1
        request = request[:8] + struct.pack("=I", self._sequence) + request[12:]
        answers = self._of_kernel(request), self.engine.ask(request)
        return tuple(sorted(map(meaning, each), key=repr) for each in answers)

    def _of_kernel(self, request: bytes) -> list[bytes]:
        kind, flags = struct.unpack_from("=HH", request, 4)
        dump = kind in (Type.GETSA, Type.GETPOLICY) and flags & DUMP == DUMP
        self.kernel.send(request)
        answers: list[bytes] = []
        while True:
            data = self.kernel.recv(1 << 17)
            while data:
                length = struct.unpack_from("=I", data)[0]
                answers.append(data[:length])
                data = data[(length + 3) & ~3 :]
            kinds = {struct.unpack_from("=H", answer, 4)[0] for answer in answers}
            if xfrm.NLMSG_ERROR in kinds or (xfrm.NLMSG_DONE in kinds if dump else not flags & xfrm.NLM_F_ACK):
                return answers


def meaning(answer: bytes) -> tuple:
    """An answer without what may differ: numbers of messages, ports and policies, the time, an echo of the request."""
    header, body = xfrm.parse_header(answer)
    if header.type == xfrm.NLMSG_ERROR:
        return "error", errno.errorcode.get(-struct.unpack_from("=i", body)[0], "none")
    if header.type == xfrm.NLMSG_DONE:
        return ("done",)
    skipped, size = {
        Type.NEWSA: (range(176, 192), xfrm.SA_SIZE),
        Type.NEWPOLICY: ((*range(136, 152), *range(156, 160)), xfrm.POLICY_SIZE),
        Type.NEWAE: ((), 48),
    }.get(header.type, ((), 4))
    attributes = {kind: bytes(value) for kind, value in xfrm.parse_attributes(body, size).items()}
    if header.type == Type.NEWAE:
        attributes[xfrm.Attribute.LTIME_VAL] = attributes[xfrm.Attribute.LTIME_VAL][:16]
    return header.type, bytes(byte for at, byte in enumerate(body[:size]) if at not in skipped), sorted(attributes.items())


@pytest.fixture
def both() -> Iterator[Both]:
    run("ip", "netns", "add", SPACE)
    try:
        # charon sets what it needs; here nobody does.
        acquire = f"net.core.xfrm_acq_expires={ACQUIRE_SECONDS}"
        run("nsenter", f"--net={netns.path(SPACE)}", "sysctl", "-qw", acquire)
        made = Both()
        yield made
        made.kernel.close()
        made.engine.core.close()
    finally:
        run("ip", "netns", "del", SPACE)


def test_what_charon_and_ip_say_gets_the_same_answers(both: Both) -> None:
    get = {"flags": REQUEST}
    dumps = [message(Type.GETSA, bytes(24), flags=REQUEST | DUMP), message(Type.GETPOLICY, bytes(64), flags=REQUEST | DUMP)]
    counts = [message(kind, bytes(4), flags=REQUEST) for kind in (Type.GETSPDINFO, Type.GETSADINFO)]
    look = [*dumps, *counts]
    said = [
        *look,
        # An SPI, then its SA, and the other direction's.
        *(alloc_spi(SPI, SPI), sa_id(Type.GETSA, SPI, **get), *look, new_sa(SPI)),
        *(new_sa(SPI, kind=Type.UPDSA), new_sa(SPI), new_sa(SPI + 1, OWN, PEER, window=1), *look),
        *(sa_id(Type.GETSA, SPI, **get), sa_id(Type.GETSA, SPI), sa_id(Type.GETSA, SPI + 1, PEER, **get)),
        *(ae_id(SPI), ae_id(SPI, 6), ae_id(SPI + 1, destination=PEER), ae_id(SPI + 7)),
        *(new_sa(SPI, kind=Type.UPDSA, life=limits(soft=1000, hard=2000)), sa_id(Type.GETSA, SPI, **get)),
        # Policies, what is there already, what is not there.
        *(policy(IN), policy(FWD), policy(OUT, SPI + 1), policy(IN), policy(OUT), *look),
        *(policy_id(Type.GETPOLICY, OUT, **get), policy_id(Type.GETPOLICY, OUT, selector(OWN, "10.9.9.9"), **get)),
        policy(IN, action=1, templates=[], sel=selector("10.0.0.7", OWN)),
        *(new_sa(SPI + 7, kind=Type.UPDSA), sa_id(Type.GETSA, SPI + 7), sa_id(Type.DELSA, SPI + 7)),
        # A rekeying, and the end.
        *(alloc_spi(SPI + 2, SPI + 2), new_sa(SPI + 2, kind=Type.UPDSA), new_sa(SPI + 3, OWN, PEER, window=1)),
        *(policy(way, SPI + 3 if way == OUT else 0, kind=Type.UPDPOLICY, priority=5) for way in (IN, FWD, OUT)),
        *(sa_id(Type.DELSA, SPI + 1, PEER), sa_id(Type.DELSA, SPI), *look),
        *(policy_id(Type.DELPOLICY, way) for way in (OUT, IN, FWD)),
        policy_id(Type.DELPOLICY, OUT),
        *(policy(OUT, kind=Type.UPDPOLICY), alloc_spi(SPI + 9, SPI + 9), sa_id(Type.DELSA, SPI + 9), *look),
        *(message(Type.FLUSHSA, bytes([protocol])) for protocol in (51, 6, 0, 0)),
        *(message(Type.FLUSHPOLICY, b""), message(Type.FLUSHPOLICY, b""), message(Type.NEWSPDINFO, bytes(4)), *look),
    ]
    for number, request in enumerate(said):
        kernel, engine = both.ask(request)
        assert engine == kernel, f"message {number}, of type {Type(struct.unpack_from('=H', request, 4)[0]).name}"


def test_what_is_malformed_is_refused_alike(both: Both) -> None:
    long_prefix = selector(PEER, OWN, (33, 32))
    for request in (
        *(new_sa(SPI), alloc_spi(SPI, SPI), alloc_spi(3, 2), message(Type.ALLOCSPI, usersa(0, PEER, OWN))),
        *(message(kind, bytes(size)) for kind, size in ((Type.GETSA, 8), (Type.NEWSA, 100), (Type.NEWPOLICY, 100))),
        *(message(kind, b"") for kind in (Type.FLUSHSA, Type.GETSADINFO, Type.GETSPDINFO, Type.NEWSPDINFO, Type.DELPOLICY)),
        *(policy_id(kind, way) for kind in (Type.GETPOLICY, Type.DELPOLICY) for way in (3, 9)),
        *(policy(3), policy(IN, sel=long_prefix), message(0x22, bytes(300)), message(0x40, bytes(300))),
        sa_id(Type.GETAE, SPI),
        new_sa(SPI + 1, attributes=replay()[:-4]),
    ):
        kernel, engine = both.ask(request)
        assert kernel == engine, request.hex()


def test_the_engine_refuses_what_the_kernel_refuses_and_more(both: Both) -> None:
    """Never less; and what both refuse, with the same errno. What the kernel alone takes is what would be insecure here."""
    cases = {f"SA: {name}": new_sa(SPI + number, **fields) for number, (name, (fields, _)) in enumerate(WRONG_SA.items())}
    cases |= {f"policy: {name}": policy(IN, **fields) for name, (fields, _) in WRONG_POLICY.items()}
    cases |= {"SPI below 256": new_sa(5), "an SPI of another's": alloc_spi(703, 703, destination="10.0.0.77")}
    taken = set()
    for name, request in cases.items():
        kernel, engine = both.ask(request)
        both.ask(message(Type.FLUSHPOLICY, b""))
        assert engine[-1][0] == "error", name
        assert engine[-1][1] != "none", name
        if kernel[-1][0] == "error" and kernel[-1][1] != "none":
            assert engine == kernel, name
        else:
            taken.add(name)
    assert {"SA: no ESN", "SA: transport mode", "SA: a used key", "SA: a window of 1", "policy: a bypass"} <= taken
    assert KEY not in b"".join(map(bytes, both.engine.ask(new_sa(SPI))))
