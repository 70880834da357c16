"""A request to S3 and its answer, once it is known who asks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

import structlog
from prometheus_client import Counter
from starlette.types import Send

from phalanx.services.s3 import answers, conditions, deletion, multipart, ranges
from phalanx.services.s3.access import Access, Known
from phalanx.services.s3.backend import Backend, BackendError, Exchange
from phalanx.services.s3.body import Body, Disconnected
from phalanx.services.s3.description import Descriptions, describes
from phalanx.services.s3.folders import Folders
from phalanx.services.s3.payload import Payload
from phalanx.services.s3.places import Opened, Places
from phalanx.services.s3.refusals import AWAY, refusal
from phalanx.services.s3.request import WRITING, Request, Source, possible, target
from phalanx.wire.errors import AwsError, Denied
from phalanx.wire.service import Client
from phalanx.wire.sigv4 import HttpRequest, Refused

BYTES = Counter("phalanx_s3_bytes", "Bytes of objects that were taken in and given out.", ["direction"])

_SMALL = 4 << 20
"""Bytes of a body that is a document: a thousand keys of a kilobyte, whose bytes may be escaped."""
_PASSED = frozenset(
    {
        b"accept-ranges",
        b"content-length",
        b"content-range",
        b"date",
        b"etag",
        b"last-modified",
    }
)
"""Headers of the server's answers that are passed on, besides what describes objects: not what it says of other origins, or of
itself."""
_FAILED = AwsError("InternalError", "We encountered an internal error. Please try again.", 500)
_DEFAULT_TYPE = (b"content-type", b"binary/octet-stream")
"""S3's, of objects that were written without one."""
_ETAG_OF_NOTHING = b'"d41d8cd98f00b204e9800998ecf8427e"'
_NO_KEY = AwsError("NoSuchKey", "The specified key does not exist.", 404)
_NO_BUCKET = answers.error(404, b"<Code>NoSuchBucket</Code>")
_UNMET = AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """The server behind, as of that region, and what is known here of its buckets besides."""

    region: str
    backend: Backend
    folders: Folders
    places: Places
    descriptions: Descriptions


class Turn:
    """One request, from when its headers are there until it is answered."""

    def __init__(self, access: Access, server: Server, http: HttpRequest, client: Client, body: Body, send: Send) -> None:
        self._access = access
        self._server = server
        self._http = http
        self._client = client
        self._body = body
        self._send = send
        self._request_id = str(uuid.uuid4())
        self._known: Known | None = None
        self._started = False
        self._checksums: dict[str, str] = {}

    async def serve(self) -> None:
        """Answer it; never raises."""
        error: AwsError | None = None
        try:
            self._known = await self._access.known(self._http, self._client, self._request_id)
            await self._answer(self._known)
        except Disconnected:
            return
        except Refused as refused:
            error = refusal(refused, self._http)
        except Denied as denied:
            error = AwsError("AccessDenied", denied.message, 403)
        except AwsError as failed:
            error = failed
        except self._access.unavailable as away:
            _log.warning("request cannot be served", request_id=self._request_id, reason=str(away))
            error = AWAY
        except Exception:
            _log.exception("request failed", request_id=self._request_id)
            error = _FAILED
        if error is not None:
            await self._fail(error)

    async def _answer(self, known: Known) -> None:
        request = known.request
        payload = Payload(self._http.headers, known.stated, known.claim, known.secret)
        if request.impossible:
            await self._answer_impossible(request, payload)
        elif request.operation == "DeleteObjects":
            await self._delete(known, await self._document(payload))
        elif request.operation == "GetObjectTagging":
            await self._document(payload)
            await self._tell_tags(known)
        elif request.operation in ("GetObject", "HeadObject"):
            await self._document(payload)
            await self._read(known)
        elif request.operation == "DeleteObject" or request.operation in WRITING:
            await self._change(known, payload)
        else:
            if request.operation == "DeleteBucket":
                await self._server.folders.clear(request.members["Bucket"])
            await self._ask(known, payload)

    async def _answer_impossible(self, request: Request, payload: Payload) -> None:
        """Answer a request about a key that no object can have here."""
        if request.operation in ("GetObject", "HeadObject", "GetObjectTagging") or "if-match" in request.conditions:
            raise _NO_KEY
        if request.operation == "DeleteObject":
            if request.folder:
                await self._server.folders.remove(request.members["Bucket"], request.folder)
            await self._say(204, b"")
        elif request.operation == "PutObject" and request.folder and payload.length == 0:
            await self._document(payload)
            await self._mark(request)
        else:
            raise AwsError(
                "NotImplemented",
                "Keys whose parts between slashes are empty, . or .. are not implemented here, but for an empty object with one"
                " slash at the end of its key, which is a folder.",
                501,
            )

    async def _change(self, known: Known, payload: Payload) -> None:
        """Write or delete an object, or a part of one, if folders and conditions allow it."""
        request, folders = known.request, self._server.folders
        bucket, key = request.members["Bucket"], request.members["Key"]
        with folders.held(bucket, [key], alone=bool(request.conditions)):
            if request.conditions:
                await self._meet(known)
            if request.operation in WRITING:
                await folders.make_room(bucket, key)
            elif not folders.may_exist(bucket, key):
                await self._say(204, b"")
                return
            if request.source is not None:
                await self._document(payload)
                await self._copy(request, request.source)
            elif request.operation == "CompleteMultipartUpload":
                await self._complete(request, await self._document(payload))
            elif request.operation == "DeleteObject":
                await self._document(payload)
                async with (
                    self._server.places.deleted(bucket, [key]),
                    self._server.backend.ask("DELETE", request.target, list(request.headers)) as exchange,
                ):
                    await self._tell(known, exchange)
            else:
                await self._ask(known, payload)

    async def _mark(self, request: Request) -> None:
        """PutObject of an empty `a/`, by which clients mean a folder: it becomes one, without an object."""
        bucket, folders = request.members["Bucket"], self._server.folders
        async with self._server.backend.ask("HEAD", target(bucket, "", {})) as exchange:
            if exchange.status == 404:
                raise _NO_BUCKET
        with folders.held(bucket, [request.members["Key"]]):
            await folders.make(bucket, request.folder)
        await self._say(200, b"", headers=[(b"etag", _ETAG_OF_NOTHING), *self._stated()])

    async def _ask(self, known: Known, payload: Payload) -> None:
        """Have the server do it, and answer what it answers."""
        request = known.request
        headers = list(request.headers)
        content = self._content(payload)
        if request.operation == "PutObject":
            async with self._write(request, headers, content, payload.length) as exchange:
                await self._tell(known, exchange)
            return
        async with self._server.backend.ask(self._http.method, request.target, headers, content, payload.length) as exchange:
            await self._tell(known, exchange)

    async def _read(self, known: Known) -> None:
        """GetObject and HeadObject."""
        request = known.request
        bucket, key = request.members["Bucket"], request.members["Key"]
        async with self._opened(bucket, key) as found:
            if found is None:
                await self._conceal(known)
                raise self._missing(bucket)
            outcome = conditions.outcome(self._http.headers, found.etag, found.modified)
            if outcome == 412:
                raise _UNMET
            told = [(b"date", formatdate(usegmt=True).encode()), (b"etag", found.etag), (b"last-modified", found.modified)]
            if outcome == 304:
                await self._say(304, b"", headers=told)
                return
            field = dict(request.headers).get(b"range")
            first, length = (0, found.size) if field is None else ranges.part(field, found.size)
            if field is not None:
                told.append((b"content-range", b"bytes %d-%d/%d" % (first, first + length - 1, found.size)))
            described = found.described
            if not any(name == b"content-type" for name, _ in described):
                described = [*described, _DEFAULT_TYPE]
            replaced = {name for name, _ in request.overrides}
            told += [header for header in described if header[0] not in replaced]
            told += [*request.overrides, (b"accept-ranges", b"bytes"), (b"content-length", b"%d" % length)]
            await self._start(200 if field is None else 206, told)
            if request.operation == "GetObject":
                await self._give(found.pieces(first, length))
            await self._send({"type": "http.response.body", "body": b""})

    async def _give(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Send what was asked for of an object. Raises Disconnected."""
        # Who reads a little of an object and goes away (any seek in a remote file) must not have all of it read.
        gone = asyncio.create_task(self._body.gone())
        given = 0
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if gone.done():
                        raise Disconnected
                    given += len(piece)
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
            BYTES.labels("out").inc(given)

    @asynccontextmanager
    async def _opened(self, bucket: str, key: str) -> AsyncIterator[Opened | None]:
        """An object to read; None where there is none. Whoever replaces it from then on, this is what it was."""
        places = self._server.places
        with ExitStack() as closing:
            async with places.read(bucket, key):
                async with self._server.backend.ask("HEAD", target(bucket, key, {})) as exchange:
                    there = exchange.status == 200
                if there:
                    told = dict(exchange.headers)
                    file = places.open(bucket, key, closing)
                    described = self._description(bucket, key, exchange)
                    opened = Opened(file, told.get(b"etag", b""), told.get(b"last-modified", b""), described)
            yield opened if there else None

    def _missing(self, bucket: str) -> AwsError:
        """What is said of an object that is not there."""
        return _NO_KEY if self._server.folders.has_bucket(bucket) else _NO_BUCKET

    async def _tell(self, known: Known, exchange: Exchange) -> None:
        """Answer what the server answers."""
        request = known.request
        if exchange.status >= 400 and self._http.method != "HEAD":
            raise answers.error(exchange.status, await exchange.whole())
        rewrite = answers.REWRITTEN.get(request.operation)
        if exchange.status == 200 and request.operation == "CreateBucket":
            self._server.descriptions.made(request.members["Bucket"])
        if exchange.status == 200 and rewrite is not None:
            answer = await exchange.whole()
            if request.operation == "ListBuckets":
                answer = answers.dated(answer, self._server.descriptions.made)
            await self._say(200, rewrite(answer, request.members, self._server.region))
        else:
            await self._pass_on(known, exchange)

    async def _meet(self, known: Known) -> None:
        """See to it that the conditions of a write or a deletion hold. Raises AwsError where they do not."""
        bucket, key, wanted = known.request.members["Bucket"], known.request.members["Key"], known.request.conditions
        # As in S3: else who may only write could find out what is there. Who may delete finds out that something is.
        asked = "if-match" in wanted and not (known.request.operation == "DeleteObject" and wanted["if-match"].strip() == b"*")
        if asked and await self._access.may(known.caller, "GetObject", bucket, key):
            raise AwsError("AccessDenied", "Access Denied", 403)
        async with self._server.backend.ask("HEAD", target(bucket, key, {})) as there:
            if there.status == 404 and "if-match" in wanted:
                raise _NO_KEY
            if there.status == 200 and _outcome(wanted, there) != 200:
                raise _UNMET

    async def _complete(self, request: Request, given: bytes) -> None:
        """CompleteMultipartUpload: the server names an ETag that the object has not."""
        backend, bucket, key = self._server.backend, request.members["Bucket"], request.members["Key"]
        named = multipart.read(given)
        there: dict[int, multipart.Part] = {}
        marker: str | None = "0"
        while marker is not None:
            where = target(bucket, key, {"uploadId": request.upload, "max-parts": "1000", "part-number-marker": marker})
            async with backend.ask("GET", where) as exchange:
                if exchange.status >= 400:
                    raise answers.error(exchange.status, await exchange.whole())
                found, marker = multipart.listed(await exchange.whole())
            there |= found
        multipart.check(named, there, request.members.get("MpuObjectSize"))
        content = multipart.write(named)
        async with self._server.places.replaced(bucket, key):
            async with backend.ask("POST", request.target, [], _once(content), len(content)) as exchange:
                if exchange.status >= 400:
                    raise answers.error(exchange.status, await exchange.whole())
            async with backend.ask("HEAD", target(bucket, key, {})) as made:
                etag = _etag(made)
                self._describe(request, etag, made.headers)
        scheme = "https" if self._client.secure else "http"
        where = self._http.headers.get("host", b"") + self._http.path
        await self._say(200, answers.completed(f"{scheme}://{where.decode('latin-1')}", bucket, key, etag.decode("latin-1")))

    async def _copy(self, request: Request, source: Source) -> None:
        """CopyObject and UploadPartCopy: what the server gives is given to it. Of itself it copies no parts, and objects with a
        description that is neither the source's nor the request's."""
        span = source.span
        async with self._opened(source.bucket, source.key) as origin:
            if origin is None:
                raise self._missing(source.bucket)
            if conditions.outcome(source.conditions, origin.etag, origin.modified) != 200:
                raise _UNMET
            first, length = (0, origin.size) if span is None else ranges.part(b"bytes=%d-%d" % span, origin.size)
            if span is not None and length != span[1] - span[0] + 1:
                raise AwsError("InvalidArgument", "The specified range ends after the source object.")
            headers = origin.described if source.describes else list(request.headers)
            async with self._write(request, headers, origin.pieces(first, length), length) as exchange:
                if exchange.status >= 400:
                    raise answers.error(exchange.status, await exchange.whole())
                etag = _etag(exchange)
        modified = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        await self._say(200, answers.copied(request.operation, etag.decode("latin-1"), modified))

    @asynccontextmanager
    async def _write(
        self, request: Request, headers: list[tuple[bytes, bytes]], content: AsyncGenerator[bytes, None], length: int
    ) -> AsyncIterator[Exchange]:
        """Have the server write an object, or a part of an upload, and keep what describes it."""
        async with AsyncExitStack() as turn:
            if not request.upload:
                place = self._server.places.replaced(request.members["Bucket"], request.members["Key"])
                content = _ending(content, turn, place)
            async with self._server.backend.ask("PUT", request.target, headers, content, length) as exchange:
                if not request.upload and exchange.status == 200:
                    self._describe(request, _etag(exchange), headers)
                await turn.aclose()
                yield exchange

    def _describe(self, request: Request, etag: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep what describes the object that the request has made."""
        self._server.descriptions.keep(request.members["Bucket"], request.members["Key"], etag, headers)

    def _description(self, bucket: str, key: str, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """What describes the object that the server tells of."""
        kept = self._server.descriptions.of(bucket, key, _etag(exchange))
        return [header for header in exchange.headers if describes(header[0])] if kept is None else kept

    async def _content(self, payload: Payload) -> AsyncGenerator[bytes, None]:
        """The body's content; the last piece comes only when all of it has been verified."""
        held = b""
        async for data in self._body.pieces():
            for piece in payload.feed(data):
                if held:
                    yield held
                held = piece
        self._checksums = payload.finish()
        BYTES.labels("in").inc(payload.length)
        if held:
            yield held

    async def _document(self, payload: Payload) -> bytes:
        if payload.length > _SMALL:
            raise AwsError("MaxMessageLengthExceeded", "Your request was too large.")
        return b"".join([piece async for piece in self._content(payload)])

    async def _delete(self, known: Known, given: bytes) -> None:
        """DeleteObjects: what may be deleted is, the rest is told of."""
        asked = deletion.read(given)
        bucket = known.request.members["Bucket"]
        denied = await self._access.may(known.caller, "DeleteObject", bucket, *asked.keys)
        failed = {key: ("AccessDenied", message) for key, message in denied.items()}
        # What cannot be there is deleted.
        folders = self._server.folders
        passed = [key for key in asked.keys if key not in failed and possible(key) and folders.may_exist(bucket, key)]
        if passed:
            content = deletion.write(passed)
            backend, target = self._server.backend, known.request.target
            with folders.held(bucket, passed):
                async with (
                    self._server.places.deleted(bucket, passed),
                    backend.ask("POST", target, [], _once(content), len(content)) as exchange,
                ):
                    if exchange.status != 200:
                        await self._pass_on(known, exchange)
                        return
                    told = deletion.failures(await exchange.whole())
            if told is None:
                raise BackendError("the S3 server's answer is none")
            failed |= told
        await self._say(200, deletion.answer(asked, failed))

    async def _tell_tags(self, known: Known) -> None:
        """GetObjectTagging, which clients ask for before they copy: objects have no tags here."""
        members = known.request.members
        async with self._server.backend.ask("HEAD", target(members["Bucket"], members["Key"], {})) as exchange:
            if exchange.status == 404:
                await self._conceal(known)
                raise _NO_KEY
        await self._say(200, answers.NO_TAGS)

    async def _conceal(self, known: Known) -> None:
        """That there is no such object is only for those to know who may list the bucket."""
        members = known.request.members
        if await self._access.may(known.caller, "ListObjectsV2", members["Bucket"], members["Key"]):
            raise AwsError("AccessDenied", "Access Denied", 403)

    async def _pass_on(self, known: Known, exchange: Exchange) -> None:
        headers = [header for header in exchange.headers if header[0] in _PASSED]
        if exchange.status == 200:
            headers += self._stated()
        if known.request.operation == "HeadBucket" and exchange.status == 200:
            headers.append((b"x-amz-bucket-region", self._server.region.encode()))
        await self._start(exchange.status, headers)
        async for piece in exchange.body():
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    def _stated(self) -> list[tuple[bytes, bytes]]:
        """The checksums that the client stated, as the answer repeats them."""
        return [(name.encode(), value.encode("latin-1")) for name, value in self._checksums.items()]

    async def _say(self, status: int, body: bytes, code: str = "", headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a document, or with nothing but headers."""
        length = [] if status in (204, 304) else [(b"content-length", str(len(body)).encode())]
        kind = [(b"content-type", b"application/xml")] if body else []
        await self._start(status, [*length, *kind, *headers], code)
        await self._send({"type": "http.response.body", "body": body})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]], code: str = "") -> None:
        """Begin the answer, when the client has been heard out."""
        if not await self._body.drain():
            headers = [*headers, (b"connection", b"close")]
        if self._known is not None:
            await self._access.answered(self._known, status, code)
        identity = self._request_id.encode()
        headers = [*headers, (b"x-amz-request-id", identity), (b"x-amz-id-2", identity)]
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _fail(self, error: AwsError) -> None:
        if self._started:
            # The answer breaks off, which is all that can be said now.
            return
        try:
            await self._say(error.status, answers.fault(error, self._request_id), error.code)
        except Disconnected:
            return
        except self._access.unavailable:
            return


def _etag(exchange: Exchange) -> bytes:
    """The ETag of what the server tells of, in quotes."""
    return dict(exchange.headers).get(b"etag", b"")


def _outcome(headers: Mapping[str, bytes], exchange: Exchange) -> int:
    """What conditions come to for the object that the server tells of."""
    return conditions.outcome(headers, _etag(exchange), dict(exchange.headers).get(b"last-modified", b""))


async def _ending(
    content: AsyncGenerator[bytes, None], turn: AsyncExitStack, place: AbstractAsyncContextManager[None]
) -> AsyncGenerator[bytes, None]:
    """The content, of which the last piece comes only when `place` is had, which `turn` gives back."""
    held = b""
    async with aclosing(content):
        async for piece in content:
            if held:
                yield held
            held = piece
        await turn.enter_async_context(place)
        if held:
            yield held


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
