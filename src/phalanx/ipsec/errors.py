"""The one error of the ipsec room."""

from __future__ import annotations


class MeshError(RuntimeError):
    """A guard, a probe, an IKE daemon or a data plane failed: what, why, and what to do next. Traffic stands still."""
