"""What an AWS service is to the wire: a botocore service name and a handler for each operation that is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from phalanx.wire.sigv4 import HttpRequest

Members = dict[str, Any]
"""Members of a request or response structure by the service model's names: str, int, float, bool, bytes, list, dict, and
timezone-aware datetime for timestamps."""


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from: the peer's address, whether over TLS, and what it calls itself."""

    address: str = ""
    secure: bool = False
    user_agent: str = ""

    @classmethod
    def of(cls, scope: Mapping[str, Any], request: HttpRequest) -> Client:
        """The client of an ASGI scope, whose request it is."""
        address, *_ = scope.get("client") or ("",)
        # Who listens on `::` sees IPv4's clients so (RFC 4291 section 2.5.5.2); policies and the trail have their own address.
        mapped = str(address).removeprefix("::ffff:")
        agent = request.headers.get("user-agent", b"").decode("latin-1")
        return cls(mapped if "." in mapped else str(address), scope.get("scheme") == "https", agent)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, where and under which request id."""

    account: str
    region: str
    access_key: str
    arn: str
    user_id: str
    request_id: str
    client: Client = Client()

    def arn_of(self, service: str, resource: str) -> str:
        """The ARN of a service's resource, such as `training-job/NAME`, in the caller's partition, region and account."""
        return f"arn:{self.arn.split(':')[1]}:{service}:{self.region}:{self.account}:{resource}"


Handler = Callable[[Caller, Members], Members]
"""One operation: gets validated members, returns the response's members, raises AwsError. Synchronous; runs in a thread."""


READING = ("Describe", "List", "Get", "Search", "Simulate", "BatchGet", "BatchDescribe", "Filter", "Lookup", "Query")
"""How the names of operations begin that change nothing."""
GIVING = frozenset({"GetSessionToken"})
"""Those of them whose answer is a new key, which nobody is to get by a request that was recorded."""


@dataclass(frozen=True, slots=True)
class Event:
    """A request and how it ended, as a guard keeps it on record. `caller` is None where it could not be told who asked:
    then `access_key` is what the request claimed."""

    request_id: str
    client: Client
    caller: Caller | None
    access_key: str
    region: str
    service: str
    operation: str
    members: Members | None = None
    response: Members | None = None
    error: tuple[str, str] | None = None
    """Code and message."""

    @classmethod
    def of(
        cls,
        caller: Caller,
        service: str,
        operation: str,
        members: Members | None = None,
        response: Members | None = None,
        error: tuple[str, str] | None = None,
    ) -> Event:
        """A request of a known caller."""
        about = (caller.request_id, caller.client, caller, caller.access_key, caller.region)
        return cls(*about, service, operation, members, response, error)


class Guard(Protocol):
    """Who is let in and what they may do. Called from any thread."""

    def admit(self, client: Client, access_key: str) -> bool:
        """Whether a request that claims to be signed with this key is looked at at all."""

    def refused(self, client: Client) -> bool:
        """A request turned out not to be from whom it says. Returns whether that is worth a record: not of a flood."""

    def accepted(self, client: Client, access_key: str) -> None:
        """A request turned out to be from whom it says."""

    def authorize(self, caller: Caller, service: str, operation: str, members: Members) -> None:
        """Raise Denied where the caller may not do this, AwsError where something else stands against it."""

    def ready(self) -> bool:
        """Whether what is done can be put on record; while it cannot, nothing is."""

    def record(self, event: Event) -> None:
        """Put a request on record."""


Owed = list[Callable[[], None]]
"""What to call once all that a request has committed is on the disk; empty where it is there already."""


class Store(Protocol):
    """What handlers write to, where it lets the endpoint wait for the disk in their place. Called from any thread."""

    def postponing(self) -> AbstractContextManager[Owed]:
        """What the thread writes meanwhile may be owed at the end."""

    def sync(self) -> None:
        """Return when all that was committed before is on the disk. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Service:
    """`name` is botocore's (`sagemaker`, `ec2` …); `handlers` maps operation names of its model."""

    name: str
    handlers: Mapping[str, Handler]
    strict: bool = False
    """Whether operations that change something refuse members that the model does not know, which AWS ignores (decision 39)."""
