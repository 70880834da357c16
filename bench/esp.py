"""Engines with fixed keys, installed through their XFRM server as an IKE daemon would, without one."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Any

from bench.lab import Host, Pair
from phalanx.ipsec.engine import messages as xfrm
from phalanx.ipsec.engine.messages import Direction
from phalanx.ipsec.engine.process import Engine

REQID = 1
SPIS = (0xC0000001, 0xC0000002)
"""By the number of the host that sends with it."""
KEYS = (bytes(range(36)), bytes(range(36, 72)))
ACK = xfrm.NLM_F_ACK | 1


def _address(text: str) -> bytes:
    return IPv4Address(text).packed.ljust(16, b"\0")


def _sa(spi: int, key: bytes, source: str, destination: str) -> bytearray:
    info = xfrm.SaInfo(
        selector=xfrm.parse_selector(bytes(xfrm.SELECTOR_SIZE)), source=_address(source), destination=_address(destination),
        spi=spi, protocol=xfrm.ESP, limits=xfrm.Limits(), sequence=0, reqid=REQID, family=socket.AF_INET, mode=xfrm.TUNNEL,
        replay_window=0, flags=xfrm.STATE_AF_UNSPEC | xfrm.STATE_ESN,
    )  # fmt: skip
    body = xfrm.pack_sa(info, xfrm.Current()) + xfrm.pack_aead("rfc4106(gcm(aes))", bytearray(key), 128)
    return xfrm.build(xfrm.Type.NEWSA, body + xfrm.pack_replay(4096, 0, 0), flags=ACK)


def _policy(direction: Direction, spi: int, source: str, destination: str) -> bytearray:
    selector = xfrm.pack_selector(socket.AF_INET, IPv4Address(source).packed, IPv4Address(destination).packed)
    everything = 2**32 - 1
    template = xfrm._TEMPLATE.pack(_address(destination), spi.to_bytes(4, "big"), xfrm.ESP, socket.AF_INET, _address(source),
                                   REQID, xfrm.TUNNEL, 0, 0, everything, everything, everything)  # fmt: skip
    parsed = xfrm.Template(
        template, _address(source), _address(destination), spi, xfrm.ESP, socket.AF_INET, REQID, xfrm.TUNNEL, False
    )
    request = xfrm.PolicyRequest(
        selector=xfrm.parse_selector(selector), limits=xfrm.Limits(), priority=100, direction=direction, action=0, flags=0,
        share=0, templates=(parsed,), attributes=frozenset(),
    )  # fmt: skip
    body = xfrm.pack_policy(request, 0, xfrm.Current()) + xfrm.pack_templates((parsed,))
    return xfrm.build(xfrm.Type.NEWPOLICY, body, flags=ACK)


class Tunnel:
    """Both engines of a pair and the SAs between them."""

    def __init__(self, pair: Pair, **options: Any) -> None:
        self._engines: list[Engine] = []
        self._owners: list[socket.socket] = []
        try:
            for host, peer in (pair.hosts, pair.hosts[::-1]):
                self._add(host, peer, options)
        except BaseException:
            self.close()
            raise

    def _add(self, host: Host, peer: Host, options: dict[str, Any]) -> None:
        engine = Engine(str(host.netns), host.rundir)
        self._engines.append(engine)
        engine.start(host.secure, [peer.secure], **options)
        owner = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owners.append(owner)  # what it installs goes when it closes
        owner.connect(str(engine.xfrm_socket))
        out, back = (host.secure, peer.secure), (peer.secure, host.secure)
        for request in (
            _sa(SPIS[peer.number], KEYS[peer.number], *back),
            _sa(SPIS[host.number], KEYS[host.number], *out),
            _policy(Direction.IN, 0, *back),
            _policy(Direction.OUT, SPIS[host.number], *out),
        ):
            owner.send(request)
            answer = owner.recv(4096)
            error = int.from_bytes(answer[16:20], "little", signed=True)
            if error:
                raise RuntimeError(f"the engine refused a request with errno {-error}: see its log")

    def close(self) -> None:
        for owner in self._owners:
            owner.close()
        for engine in self._engines:
            engine.stop()
