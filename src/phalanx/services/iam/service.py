"""IAM: roles and policies are not managed yet, so that every operation answers InvalidAction."""

from __future__ import annotations

from phalanx.wire.service import Service


def service() -> Service:
    """The IAM service."""
    return Service("iam", {})
