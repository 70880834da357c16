"""What the network room raises."""

from __future__ import annotations


class NetworkError(Exception):
    """A namespace, link or ruleset could not be made as asked. The text says what failed, why, and what to do next."""
