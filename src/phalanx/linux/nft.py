"""nftables of the network namespace that the thread is in: its tool, and which ruleset is in force."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable

from phalanx.linux.netlink import NETLINK_NETFILTER, Netlink, attributes

_SECONDS = 30
_ATTEMPTS = 3
_GETGEN = 10 << 8 | 16  # linux/netfilter/nfnetlink.h: subsystem << 8 | message
_NFGENMSG = bytes(4)
_GEN_ID = 1


class NftError(Exception):
    """nftables did not do what was asked: why, and what to do next."""


def run(*arguments: str, text: str = "") -> str:
    """What `nft ARGUMENTS` prints, with `text` as its standard input. Raises NftError."""
    try:
        done = subprocess.run(("nft", *arguments), input=text, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NftError(f"cannot run nft: {error}; is the package nftables installed?") from error
    if done.returncode != 0:
        raise NftError(f"nft {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def load(text: str) -> None:
    """Have nft do what a file with that text says, in one transaction. Raises NftError."""
    run("-f", "-", text=text)


def enforce(text: Callable[[], str]) -> int:
    """Load what `text` gives, anew where somebody else has changed the ruleset meanwhile; the generation that this made.

    As long as that is the one in force, nobody has added anything or taken anything away. Raises NftError, OSError.
    """
    for _ in range(_ATTEMPTS):
        before = generation()
        load(text())
        after = generation()
        # Anything else means that somebody changed the ruleset in between, so that it may not be what was asked.
        if after == before + 1 or (after == 1 and before == 2**32 - 1):
            return after
    raise NftError("something keeps changing the nftables ruleset: find and stop it (`nft monitor`)")


def generation() -> int:
    """Number of the ruleset in force; every change by anybody counts it up by one, skipping 0 (32 bits).

    NFT_MSG_GETGEN of linux/netfilter/nf_tables.h. Raises OSError.
    """
    with Netlink(NETLINK_NETFILTER) as kernel:
        for _, body in kernel.ask(_GETGEN, _NFGENMSG):
            return int(struct.unpack(">I", dict(attributes(body[len(_NFGENMSG) :]))[_GEN_ID])[0])
    raise OSError("the kernel did not tell the generation of its nftables ruleset")
