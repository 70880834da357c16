"""CIDR blocks as EC2 takes them: an address, a slash and a prefix length; host bits are dropped."""

from __future__ import annotations

import ipaddress
import re

MIN_PREFIX, MAX_PREFIX = 16, 28
"""Prefix lengths that the block of a VPC or subnet may have."""

_V4 = re.compile(r"[0-9.]+/[0-9]{1,2}")
_V6 = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}")


def parse_v4(text: str) -> ipaddress.IPv4Network | None:
    """The block that `text` writes; None where it writes none. 100.68.0.18/18 is 100.68.0.0/18, as EC2 has it."""
    if not _V4.fullmatch(text):
        return None
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None


def parse_v6(text: str) -> ipaddress.IPv6Network | None:
    """The IPv6 block that `text` writes; None where it writes none."""
    if not _V6.fullmatch(text):
        return None
    try:
        return ipaddress.IPv6Network(text, strict=False)
    except ValueError:
        return None
