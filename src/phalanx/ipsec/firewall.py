"""Who reaches an instance's IKE daemon: its peers, over its wire. Nobody else, and not the container beside it.

charon answers whoever asks, and logs it. What security groups let in from others (UDP 500 of every job of a group), and what a
container sends to its own instance's addresses, would cost it time, outside of the container's share, and memory for its log.
An nftables chain in the instance's namespace drops it before any socket sees it, IPv6 included, on either data plane. It
protects charon, not secrets: plaintext to and from peers is the guard's.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address

from phalanx.ipsec import netns
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.netlink import Netlink, attributes

PORTS = (500, 501)
"""The UDP ports of a charon of ours (charon.py)."""

_TABLE = "inet phalanx"
_NETLINK_NETFILTER = 12
_NFT_GETGEN = 10 << 8 | 16  # linux/netfilter/nfnetlink.h: subsystem << 8 | message
_NFGENMSG = bytes(4)
_NFTA_GEN_ID = 1
_ATTEMPTS = 3
_SECONDS = 30


class Firewall:
    """The rules before charon in the namespace `space`, whose wire is or will be `device`. All methods raise MeshError."""

    def __init__(self, space: str, peers: Sequence[str], device: str) -> None:
        self._netns = space
        self._rules = _rules(peers, device)
        self._standing: int | None = None

    def up(self) -> None:
        """Have the rules stand, also where somebody has changed them; where nobody has, it costs one netlink message."""
        try:
            if self._standing is None or _generation(self._netns) != self._standing:
                self._standing = self._load()
        except OSError as error:
            raise MeshError(f"the rules before charon in namespace {self._netns} cannot be read: {error}") from error

    def down(self) -> None:
        """Take the rules away; a namespace that is gone took them along."""
        self._standing = None
        if os.path.exists(netns.path(self._netns)):
            self._nft(f"table {_TABLE}\ndelete table {_TABLE}\n")

    def _load(self) -> int:
        """Put the rules in place of those that are there, in one transaction; the generation that this made."""
        for _ in range(_ATTEMPTS):
            before = _generation(self._netns)
            self._nft(self._rules)
            after = _generation(self._netns)
            # Anything else means that somebody changed the ruleset in between, so that it may not be what was asked.
            if after == before + 1 or (after == 1 and before == 2**32 - 1):
                return after
        raise MeshError(f"something keeps changing the nftables ruleset of namespace {self._netns}: find and stop it")

    def _nft(self, text: str) -> None:
        def run() -> subprocess.CompletedProcess[str]:
            command = ("nft", "--file", "-")
            return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_SECONDS)

        try:
            done = netns.inside(self._netns, run)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MeshError(f"cannot run nft in namespace {self._netns}: {error}; is nftables installed?") from error
        if done.returncode != 0:
            raise MeshError(f"nft failed in namespace {self._netns}: {done.stderr.strip()}")


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


def _generation(space: str) -> int:
    """Number of the namespace's nftables ruleset; every change by anybody counts it up by one, skipping 0 (32 bits).

    NFT_MSG_GETGEN of linux/netfilter/nf_tables.h. Raises OSError.
    """
    with Netlink.connected(space, _NETLINK_NETFILTER) as kernel:
        for _, body in kernel.ask(_NFT_GETGEN, _NFGENMSG):
            return int(struct.unpack(">I", dict(attributes(body[len(_NFGENMSG) :]))[_NFTA_GEN_ID])[0])
    raise OSError("the kernel did not tell the generation of its nftables ruleset")
