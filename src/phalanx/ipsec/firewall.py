"""Who reaches an instance's IKE daemon: its peers, over its wire. Nobody else, and not the container beside it.

charon answers whoever asks, and logs it. What security groups let in from others (UDP 500 of every job of a group), and what a
container sends to its own instance's addresses, would cost it time, outside of the container's share, and memory for its log.
An nftables chain in the instance's namespace drops it before any socket sees it, IPv6 included, on either data plane. It
protects charon, not secrets: plaintext to and from peers is the guard's.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from phalanx.ipsec import netns
from phalanx.ipsec.errors import MeshError
from phalanx.linux import nft
from phalanx.linux.nft import NftError

PORTS = (500, 501)
"""The UDP ports of a charon of ours (charon.py)."""

_TABLE = "inet phalanx"


class Firewall:
    """The rules before charon in the namespace `space`, whose wire is or will be `device`. They go with the namespace."""

    def __init__(self, space: str, peers: Sequence[str], device: str) -> None:
        self._netns = space
        self._rules = _rules(peers, device)
        self._standing: int | None = None

    def up(self) -> None:
        """Have the rules stand, also where somebody has changed them; where nobody has, it costs one netlink message.

        Raises MeshError.
        """
        try:
            if self._standing is None or netns.inside(self._netns, nft.generation) != self._standing:
                self._standing = netns.inside(self._netns, lambda: nft.enforce(lambda: self._rules))
        except (NftError, OSError) as error:
            raise MeshError(f"the rules before charon in namespace {self._netns}: {error}") from error


def _rules(peers: Sequence[str], device: str) -> str:
    return f"""\
table {_TABLE}
delete table {_TABLE}
table {_TABLE} {{
    chain input {{
        type filter hook input priority 0; policy accept;
        iifname "{device}" ip saddr {{ {", ".join(str(IPv4Address(peer)) for peer in peers)} }} accept
        udp dport {{ {", ".join(map(str, PORTS))} }} drop
    }}
}}
"""
