"""IAM, as far as the SageMaker SDKs ask it about roles."""

from __future__ import annotations

from phalanx.services.iam.roles import get_role, list_roles, simulate_principal_policy
from phalanx.wire.service import Service


def service() -> Service:
    """The IAM service."""
    return Service(
        "iam",
        {"GetRole": get_role, "ListRoles": list_roles, "SimulatePrincipalPolicy": simulate_principal_policy},
    )
