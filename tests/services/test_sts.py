"""STS as boto3 sees it."""

from __future__ import annotations

import pytest

from phalanx.services.sts import service as sts
from phalanx.wire.api import apis
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "eu-central-1", "AKIA", "arn:aws:iam::123456789012:user/admin", "AIDA", "id")


@pytest.mark.shows("GetCallerIdentity")
def test_get_caller_identity() -> None:
    handler = sts.service(None).handlers["GetCallerIdentity"]
    assert handler(CALLER, {}) == {
        "UserId": "AIDA",
        "Account": "123456789012",
        "Arn": "arn:aws:iam::123456789012:user/admin",
    }


def test_the_services_are_operations_of_the_models() -> None:
    assert list(apis(sts.service(None))[0].operations) == ["GetCallerIdentity", "AssumeRole", "GetSessionToken"]
