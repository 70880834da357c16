"""The errors of the ipsec room."""

from __future__ import annotations


class MeshError(RuntimeError):
    """A guard, a probe, an IKE daemon or a data plane failed: what, why, and what to do next. Traffic stands still."""


class Unanswered(MeshError):
    """charon runs, but did not answer in time: it hangs, or has too much to do."""
