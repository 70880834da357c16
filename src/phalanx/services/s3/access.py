"""Who asks S3 for what, and whether they may. Looking that up may wait for the database, and runs in a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

import structlog
from prometheus_client import Counter

from phalanx.services.s3.backend import BackendError
from phalanx.services.s3.payload import stated
from phalanx.services.s3.refusals import AWAY, refusal
from phalanx.services.s3.request import Request, understand
from phalanx.wire import sigv4
from phalanx.wire.crew import Crew
from phalanx.wire.errors import AwsError, Denied
from phalanx.wire.service import Caller, Client, Event, Guard
from phalanx.wire.sigv4 import Claim, HttpRequest, KeyLookup, Reason, Refused

REQUESTS = Counter(
    "phalanx_s3_requests", "Requests of known callers to S3, by operation and by status.", ["operation", "status"]
)
REFUSALS = Counter(
    "phalanx_s3_refusals", "Requests to S3 that were not from whom they said, or too many, by reason.", ["reason"]
)
for _reason in Reason:
    REFUSALS.labels(_reason.value)  # at zero: Prometheus sees no increase in the first sample of a series

MANAGING = frozenset({"CreateBucket", "DeleteBucket"})
"""Operations that are put on record, as CloudTrail does; those on objects are "data events", which it leaves out by default."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A request of a caller who may make it."""

    caller: Caller
    claim: Claim
    secret: str
    stated: str
    request: Request


class Access:
    """To S3, for the access keys that `keys` knows; `guard` decides what callers may do.

    `look` is called before each request, so that what was changed elsewhere is known. `unavailable` is what all of these raise
    while what they need is away.
    """

    def __init__(
        self,
        keys: KeyLookup,
        guard: Guard,
        account: str,
        look: Callable[[], None] = lambda: None,
        unavailable: tuple[type[Exception], ...] = (),
    ) -> None:
        self._keys = keys
        self._guard = guard
        self._account = account
        self._look = look
        self.unavailable: tuple[type[Exception], ...] = (BackendError, *unavailable)
        """Those, and what the server behind raises."""
        self._crew = Crew()

    async def known(self, http: HttpRequest, client: Client, request_id: str) -> Known:
        """Who asks for what, and that they may. Raises Refused, AwsError, Denied, and what is `unavailable`."""
        return await self._crew.run(self._known, http, client, request_id)

    async def may(self, caller: Caller, operation: str, bucket: str, *keys: str) -> dict[str, str]:
        """Which of the keys the caller may not do this with, and why."""
        return await self._crew.run(self._may, caller, operation, bucket, keys)

    async def answered(self, known: Known, status: int, code: str) -> None:
        """Count a request whose answer has this status and error code, and put it on record."""
        request = known.request
        REQUESTS.labels(request.operation, str(status)).inc()
        if request.operation in MANAGING:
            error = None if status < 400 else (code or str(status), "")
            await self._crew.run(self._record, known.caller, request, error)

    def _known(self, http: HttpRequest, client: Client, request_id: str) -> Known:
        claim = None
        try:
            self._look()
            claim = sigv4.claim(http)
            if not self._guard.admit(client, claim.access_key):
                raise Refused(Reason.THROTTLED, "Please reduce your request rate.")
            presigned = claim.expires is not None
            what = stated(http.headers, presigned, _parameter(http.query, b"X-Amz-Content-Sha256"))
            principal = sigv4.verify(http, claim, "s3", self._keys, datetime.now(UTC), what)
        except Refused as refused:
            self._refused(refused, claim, http, client, request_id)
            raise
        self._guard.accepted(client, claim.access_key)
        caller = Caller(self._account, claim.region, claim.access_key, principal.arn, principal.user_id, request_id, client)
        request = understand(http.method, http.path, http.query, http.headers, self._account)
        if request.operation in MANAGING and not self._guard.ready():
            raise AWAY
        if request.operation != "DeleteObjects":
            self._authorize(caller, request)
        return Known(caller, claim, principal.secret, what, request)

    def _authorize(self, caller: Caller, request: Request) -> None:
        try:
            self._guard.authorize(caller, "s3", request.operation, request.members)
        except Denied as denied:
            REQUESTS.labels(request.operation, "403").inc()
            if request.operation in MANAGING:
                self._record(caller, request, ("AccessDenied", denied.message))
            raise

    def _record(self, caller: Caller, request: Request, error: tuple[str, str] | None) -> None:
        self._guard.record(Event.of(caller, "s3", request.operation, request.members, error=error))

    def _may(self, caller: Caller, operation: str, bucket: str, keys: tuple[str, ...]) -> dict[str, str]:
        found = {}
        for key in keys:
            try:
                members = {"Bucket": bucket, "Prefix": key} if operation == "ListObjectsV2" else {"Bucket": bucket, "Key": key}
                self._guard.authorize(caller, "s3", operation, members)
            except Denied as denied:
                found[key] = denied.message
        return found

    def _refused(self, refused: Refused, claim: Claim | None, http: HttpRequest, client: Client, request_id: str) -> None:
        """Put a request on record that is not from whom it says, unless it is one of a flood."""
        REFUSALS.labels(refused.reason.value).inc()
        if refused.reason is Reason.THROTTLED or not self._guard.refused(client):
            return
        _log.warning("request refused", request_id=request_id, reason=refused.reason.value, detail=refused.message)
        if claim is not None:
            try:
                name = understand(http.method, http.path, http.query, http.headers, self._account).operation
            except AwsError:
                name = ""
            error = (refusal(refused, http).code, refused.message)
            event = Event(request_id, client, None, claim.access_key, claim.region, "s3", name, error=error)
            self._guard.record(event)


def _parameter(query: bytes, name: bytes) -> str | None:
    """The value of a parameter of the signature, which is there once or not at all."""
    for part in query.split(b"&"):
        found, _, value = part.partition(b"=")
        if found == name:
            return unquote(value.decode("latin-1"))
    return None
