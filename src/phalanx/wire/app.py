"""The HTTP endpoint: one address for every service, as an ASGI application.

A request goes: whole body → whom is it for → who signed it → members → handler → answer. Everything after the body is
synchronous and runs in a thread, because handlers and key look-ups may wait for the database.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from phalanx.wire import sigv4
from phalanx.wire.api import INTERNAL_FAILURE, Answer, Api, CborApi, Ec2Api, JsonApi, QueryApi, RestJsonApi, apis
from phalanx.wire.crew import Crew, Rounds
from phalanx.wire.errors import AwsError, Denied
from phalanx.wire.replay import Memory, Replays
from phalanx.wire.service import GIVING, READING, Caller, Client, Event, Guard, Owed, Service, Store
from phalanx.wire.sigv4 import Claim, HttpRequest, KeyLookup, Reason, Refused

MAX_BODY = 4 << 20
"""Bytes that a request's body may have. The largest that a client has reason to send is a megabyte (PutLogEvents)."""

TOO_LARGE = AwsError("RequestEntityTooLargeException", f"The request body is larger than {MAX_BODY} bytes.", 413)
SILENT_SECONDS = 60.0
"""How long a client that has more to send may send nothing: nobody has looked yet who it is."""
SILENT = AwsError("RequestTimeout", "The request was not received within the timeout period. Try again.", 408)
UNAVAILABLE = AwsError("ServiceUnavailable", "Nothing can be put on record now, so nothing is done. Try again later.", 503)
"""While the audit log cannot be written."""
AWAY = AwsError("ServiceUnavailable", "What is stored cannot be reached now, so nothing is done. Try again later.", 503)
"""While the store cannot be reached."""
UNCERTAIN = AwsError(
    "ServiceUnavailable", "What was asked for may not be kept: the disk failed. Look whether it is there, then try again.", 503
)
"""When the disk has not taken what was committed."""

REQUESTS = Counter(
    "phalanx_api_requests", "Requests of known callers, by operation and by the error's code.", ["service", "operation", "code"]
)
REQUEST_SECONDS = Histogram(
    "phalanx_api_request_seconds",
    "From when a request was there with its whole body until its answer was ready.",
    ["service", "operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
REFUSALS = Counter("phalanx_api_refusals", "Requests that were not from whom they said, or too many, by reason.", ["reason"])
for _reason in Reason:
    REFUSALS.labels(_reason.value)  # at zero: Prometheus sees no increase in the first sample of a series

_log = structlog.get_logger(__name__)


def application(
    services: Sequence[Service],
    keys: KeyLookup,
    account: str,
    guard: Guard,
    *,
    routes: Sequence[BaseRoute] = (),
    unavailable: tuple[type[Exception], ...] = (),
    store: Store | None = None,
    replays: Memory | None = None,
) -> Starlette:
    """The ASGI application that serves `services` at `/` for the access keys that `keys` knows, all of `account`.

    `guard` decides what callers may do and keeps a record of it. `routes` are served besides (such as /console/); everything
    else is answered with 404. `unavailable` is what `keys`, `guard` and handlers raise while what they need is away: clients
    hear ServiceUnavailable (503), and repeat. `store` is where handlers may leave to the endpoint to wait for the disk.
    `replays` knows the signatures that were used; by default this process remembers its own. Raises ValueError for a handler
    without an operation of that name in its service's model.
    """
    endpoint = _Endpoint(services, keys, account, guard, unavailable, store, replays or Replays())
    rpc = [Route(f"/service/{name}/operation/{{operation}}", endpoint, methods=["POST"]) for name in endpoint.by_path]
    rest = [Route(path, endpoint, methods=[method]) for one in endpoint.by_uri.values() for path, method in one.paths]
    app = _Application(endpoint, [Route("/", endpoint, methods=["GET", "POST"]), *rpc, *rest, *routes])
    starlettes_own = app.router.default

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await starlettes_own(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        await _send(send, JsonApi.error("UnknownOperationException", "Nothing is served here.", 404, request_id), request_id)

    app.router.default = not_found
    return app


class _Application(Starlette):
    """Starlette's routes, which almost no request goes through: to look it up there takes a tenth of its time."""

    def __init__(self, endpoint: _Endpoint, routes: Sequence[BaseRoute]) -> None:
        super().__init__(routes=routes)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == "/"
        if direct:
            await self._endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _TooLarge(Exception):
    """The body is larger than MAX_BODY."""


class _Disconnected(Exception):
    """The client went away before it had sent its body."""


class _Endpoint:
    """`POST /` and `GET /` of all services, `POST /service/…/operation/…` of those that speak CBOR, and the paths of those that
    speak REST JSON."""

    def __init__(
        self,
        services: Sequence[Service],
        keys: KeyLookup,
        account: str,
        guard: Guard,
        unavailable: tuple[type[Exception], ...],
        store: Store | None,
        replays: Memory,
    ) -> None:
        made = [one for service in services for one in apis(service)]
        self._by_target = {one.target_prefix: one for one in made if type(one) is JsonApi}
        self.by_path = {one.target_prefix: one for one in made if isinstance(one, CborApi)}
        self.by_uri = {path.encode(): one for one in made if isinstance(one, RestJsonApi) for path, _ in one.paths}
        # Of requests without a target: what a query is for shows in its signature alone.
        self._by_signing_name: dict[str, Api] = {one.signing_name: one for one in made if type(one) is JsonApi}
        self._by_signing_name |= {one.signing_name: one for one in made if isinstance(one, QueryApi)}
        self._ec2_versions = [b"Version=" + one.version.encode() for one in made if isinstance(one, Ec2Api)]
        self._keys = keys
        self._account = account
        self._guard = guard
        self._unavailable = unavailable
        self._replays = replays
        self._crew = Crew()
        self._store = store
        self._disk = None if store is None else Rounds(store.sync)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        request_id = str(uuid.uuid4())
        try:
            request = HttpRequest.of(scope, await _body(receive))
            client = Client.of(scope, request)
            answer, owed = await self._crew.run(self._committed, request, request_id, client, time.perf_counter())
            if owed:
                answer = await self._durable(answer, owed, request, request_id)
        except _Disconnected:
            return
        except _TooLarge:
            speaker, _, _ = self._route(HttpRequest.of(scope))
            answer = speaker.fault(TOO_LARGE, request_id)
        except TimeoutError:
            speaker, _, _ = self._route(HttpRequest.of(scope))
            fault = speaker.fault(SILENT, request_id)
            # What comes yet would be the rest of this body.
            answer = replace(fault, headers=(*fault.headers, (b"connection", b"close")))
        await _send(send, answer, request_id)

    def _committed(self, request: HttpRequest, request_id: str, client: Client, begun: float) -> tuple[Answer, Owed]:
        """The answer to a request, and what is owed before anybody may see it."""
        if self._store is None:
            return self._answer(request, request_id, client, begun, []), []
        with self._store.postponing() as owed:
            return self._answer(request, request_id, client, begun, owed), owed

    async def _durable(self, answer: Answer, owed: Owed, request: HttpRequest, request_id: str) -> Answer:
        """The answer once what it tells of is on the disk. Requests wait together, and no thread waits with them."""
        assert self._disk is not None  # noqa: S101
        try:
            await self._disk.wait()
        except OSError:
            _log.exception("what was committed cannot be brought to the disk", request_id=request_id)
            speaker, _, _ = self._route(request)
            return speaker.fault(UNCERTAIN, request_id)
        for then in owed:
            then()
        return answer

    def _answer(self, request: HttpRequest, request_id: str, client: Client, begun: float, owed: Owed) -> Answer:
        """The answer to a request that was there at `begun` (time.perf_counter); never raises."""
        speaker, addressee, target = self._route(request)
        claim = None
        try:
            claim = sigv4.claim(request)
            if request.path == b"/":
                addressee = addressee or self._by_signing_name.get(claim.service)
            speaker = speaker if addressee is None else type(addressee)
            signing_name = claim.service if addressee is None else addressee.signing_name
            if not self._guard.admit(client, claim.access_key):
                raise Refused(Reason.THROTTLED, "Rate exceeded")
            principal = sigv4.verify(request, claim, signing_name, self._keys, datetime.now(UTC))
            self._guard.accepted(client, claim.access_key)
            if addressee is None:
                return speaker.fault(speaker.unknown_operation(target), request_id)
            caller = Caller(self._account, claim.region, claim.access_key, principal.arn, principal.user_id, request_id, client)
            return self._serve(addressee, request, claim, caller, begun, owed)
        except Refused as refused:
            self._refused(refused, addressee, request, claim, client, request_id)
            return speaker.refusal(refused, request_id)
        except self._unavailable as away:
            _log.warning("request cannot be served", request_id=request_id, reason=str(away))
            return speaker.fault(AWAY, request_id)
        except Exception:
            _log.exception("request failed", request_id=request_id)
            return speaker.fault(INTERNAL_FAILURE, request_id)

    def _refused(
        self,
        refused: Refused,
        addressee: Api | None,
        request: HttpRequest,
        claim: Claim | None,
        client: Client,
        request_id: str,
    ) -> None:
        """Put a request on record that is not from whom it says, unless it is one of a flood."""
        REFUSALS.labels(refused.reason.value).inc()
        if refused.reason is Reason.THROTTLED or not self._guard.refused(client):
            return
        _log.warning("request refused", request_id=request_id, reason=refused.reason.value, detail=refused.message)
        if addressee is not None and claim is not None:
            error = (addressee.refusals[refused.reason][0], refused.message)
            name = addressee.claimed_operation(request)
            event = Event(request_id, client, None, claim.access_key, claim.region, addressee.name, name, error=error)
            self._guard.record(event)

    def _route(self, request: HttpRequest) -> tuple[type[Api], Api | None, str]:
        """The protocol that a request seems to speak, for errors before its service is known; the service that path or target
        name, if they do and it is there; and what they call it."""
        if request.path in self.by_uri:
            return RestJsonApi, self.by_uri[request.path], ""
        if request.path != b"/":
            # Not every other path is one of those: routes let a line feed follow a slash.
            target = request.path.decode("latin-1").partition("/service/")[2].partition("/")[0]
            return CborApi, self.by_path.get(target), target
        target, _, _ = request.headers.get("x-amz-target", b"").decode("latin-1").rpartition(".")
        if "x-amz-target" in request.headers or b"json" in request.headers.get("content-type", b""):
            return JsonApi, self._by_target.get(target), target
        if any(version in request.query or version in request.body for version in self._ec2_versions):
            return Ec2Api, None, ""
        return QueryApi, None, ""

    def _serve(self, addressee: Api, request: HttpRequest, claim: Claim, caller: Caller, begun: float, owed: Owed) -> Answer:
        """The answer to a request of a known caller. Raises Refused for one that was made before."""
        if not self._guard.ready():
            return addressee.fault(UNAVAILABLE, caller.request_id)
        name = addressee.claimed_operation(request)
        members = response = error = None
        try:
            operation, members = addressee.read(request)
            name = operation.name
            if not name.startswith(READING) or name in GIVING:
                self._replays.take(claim)
            self._guard.authorize(caller, addressee.name, name, members)
            response = operation.handler(caller, members)
            return addressee.answer(operation, response, caller.request_id)
        except AwsError as failed:
            error = (failed.code, failed.message)
            return addressee.failure(failed, caller.request_id)
        except Denied as denied:
            error = (addressee.denial[0], denied.message)
            return addressee.denied(denied.message, caller.request_id)
        except Refused:
            raise
        except self._unavailable as away:
            _log.warning("operation cannot be done", request_id=caller.request_id, operation=name, reason=str(away))
            error = (AWAY.code, AWAY.message)
            return addressee.failure(AWAY, caller.request_id)
        except Exception:
            _log.exception("operation failed", request_id=caller.request_id, service=addressee.name, operation=name)
            error = (INTERNAL_FAILURE.code, INTERNAL_FAILURE.message)
            return addressee.failure(INTERNAL_FAILURE, caller.request_id)
        finally:
            if response is not None or error is not None:
                # A name that is none of the service's is empty here: labels hold nothing that a client has made up.
                REQUESTS.labels(addressee.name, name, error[0] if error else "").inc()
                seconds = REQUEST_SECONDS.labels(addressee.name, name)
                if owed:
                    owed.append(lambda: seconds.observe(time.perf_counter() - begun))
                else:
                    seconds.observe(time.perf_counter() - begun)
                self._guard.record(Event.of(caller, addressee.name, name, members, response, error))


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises _TooLarge only after it was received, or exceeds what is worth receiving: a client that is cut off
    while it sends sees a broken connection and not the error. Raises TimeoutError where a client falls silent."""
    chunks: list[bytes] = []
    size = 0
    while True:
        async with asyncio.timeout(SILENT_SECONDS):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not message.get("more_body", False):
            break
        if size > 8 * MAX_BODY:
            break
    if size > MAX_BODY:
        raise _TooLarge
    return b"".join(chunks)


async def _send(send: Send, answer: Answer, request_id: str) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-amzn-requestid", request_id.encode()),
        *answer.headers,
    ]
    if answer.error is not None:
        headers.append((b"x-amzn-errortype", answer.error.encode("ascii", "replace")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
