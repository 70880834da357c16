"""Who may assume a role, by its trust policy."""

from __future__ import annotations

from collections.abc import Callable

from phalanx.identity.conditions import Context
from phalanx.identity.policy import Statement, compiled

SAGEMAKER = "sagemaker.amazonaws.com"


def trusts(trust: str, concerns: Callable[[Statement], bool], asked: Context) -> bool:
    """Whether a trust policy allows sts:AssumeRole to whom it `concerns`, and nothing in it denies it."""
    allowed = False
    for each in compiled(trust, "trust"):
        if concerns(each) and each.action("sts:assumerole") and each.holds(asked):
            if each.denies:
                return False
            allowed = True
    return allowed


def trusts_sagemaker(trust: str) -> bool:
    """Whether SageMaker may assume a role of this trust policy for a job."""
    return trusts(trust, _concerns_sagemaker, Context({}))


def _concerns_sagemaker(statement: Statement) -> bool:
    principal = statement.principal or {}
    return SAGEMAKER in principal.get("Service", ()) or "*" in principal.get("AWS", ())
