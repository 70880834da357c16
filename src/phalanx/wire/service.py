"""What an AWS service is to the wire: a botocore service name and a handler for each operation that is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Members = dict[str, Any]
"""Members of a request or response structure by the service model's names: str, int, float, bool, bytes, list, dict, and
timezone-aware datetime for timestamps."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, where and under which request id."""

    account: str
    region: str
    access_key: str
    arn: str
    user_id: str
    request_id: str


Handler = Callable[[Caller, Members], Members]
"""One operation: gets validated members, returns the response's members, raises AwsError. Synchronous; runs in a thread."""


@dataclass(frozen=True, slots=True)
class Service:
    """`name` is botocore's (`sagemaker`, `ec2` …); `handlers` maps operation names of its model."""

    name: str
    handlers: Mapping[str, Handler]
