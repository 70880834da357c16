"""Verification of AWS Signature Version 4, in the Authorization header and in presigned queries.

The rules are those of "Signature Version 4 signing process" in the AWS IAM user guide; the texts are the ones AWS answers with.
S3's own ("Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API reference) differ: see `verify`.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
MAX_SKEW = timedelta(minutes=5)
MAX_SKEW_OF_S3 = timedelta(minutes=15)
MAX_EXPIRES = 7 * 24 * 3600
"""Longest validity of a presigned request, in seconds."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
_BASIC_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MUST_BE_SIGNED = ("x-amz-date", "x-amz-security-token", "x-amz-target")
"""Headers that decide what a request means or when: whoever sends one has to sign it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom an access key speaks for: its secret, and the principal's ARN and unique id as GetCallerIdentity shows them."""

    secret: str = field(repr=False)
    arn: str
    user_id: str
    token: str | None = None
    """SHA-256, in hex, of the session token that temporary credentials come with; None for an access key of a user."""
    expires: datetime | None = None
    """When temporary credentials end."""


KeyLookup = Callable[[str], Principal | None]
"""The principal of an access key id, or None where there is no such key. Called once for each request, from any thread."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came: header names in lower case, repeated headers joined by commas, `query` not yet decoded."""

    method: str
    query: bytes
    headers: Mapping[str, bytes]
    body: bytes
    path: bytes = b"/"
    """As it came, percent-encoded."""

    @classmethod
    def of(cls, scope: Mapping[str, Any], body: bytes = b"") -> HttpRequest:
        """The request of an ASGI scope."""
        headers: dict[str, bytes] = {}
        for raw_name, value in scope["headers"]:
            name = raw_name.decode("latin-1")
            headers[name] = value if name not in headers else headers[name] + b"," + value
        return cls(scope["method"], scope["query_string"], headers, body, scope.get("raw_path", b"/"))


class Reason(enum.Enum):
    """Why a request is refused; each protocol has a code of its own for it."""

    UNSIGNED = "unsigned"
    INCOMPLETE = "incomplete"
    UNKNOWN_KEY = "unknown key"
    BAD_SIGNATURE = "bad signature"
    EXPIRED = "expired"
    EXPIRED_TOKEN = "expired token"  # noqa: S105
    THROTTLED = "throttled"


class Refused(Exception):
    """The request is not from whom it says, or cannot be told to be."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its signer; nothing of it is verified yet."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    expires: int | None
    """Validity of a presigned request in seconds; None for a signature in the header."""
    token: str | None = field(repr=False)
    """The session token."""

    @property
    def scope(self) -> str:
        """What the signature's key is derived for."""
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


def claim(request: HttpRequest) -> Claim:
    """Read who says to have signed `request`. Raises Refused for a request without a well-formed signature."""
    header = request.headers.get("authorization")
    if header is not None:
        return _header_claim(request, header.decode("latin-1"))
    if b"X-Amz-Signature=" in request.query or b"X-Amz-Algorithm=" in request.query:
        return _query_claim(request)
    raise Refused(Reason.UNSIGNED, "Missing Authentication Token")


def _header_claim(request: HttpRequest, header: str) -> Claim:
    algorithm, _, rest = header.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise Refused(Reason.INCOMPLETE, f"Unsupported AWS 'algorithm': '{algorithm[:64]}'.")
    given = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if equals:
            given[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not given.get(name)]
    date = request.headers.get("x-amz-date")
    timestamp = date.decode("latin-1") if date is not None else _date_header(request.headers.get("date"))
    texts = [f"Authorization header requires '{name}' parameter." for name in missing]
    if timestamp is None:
        texts.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if texts or timestamp is None:
        raise Refused(Reason.INCOMPLETE, " ".join(texts))
    token = request.headers.get("x-amz-security-token")
    text = None if token is None else token.decode("latin-1")
    return _claim(given["Credential"], given["SignedHeaders"], given["Signature"], timestamp, None, text)


def _query_claim(request: HttpRequest) -> Claim:
    given: dict[str, str] = {}
    for part in request.query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name.startswith(b"X-Amz-"):
            given[name.decode("latin-1")] = unquote_to_bytes(value).decode("latin-1")
    names = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires")
    missing = [name for name in names if not given.get(name)]
    if missing:
        raise Refused(Reason.INCOMPLETE, " ".join(f"AWS query-string parameters must include '{name}'." for name in missing))
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise Refused(Reason.INCOMPLETE, f"Unsupported AWS 'algorithm': '{given['X-Amz-Algorithm'][:64]}'.")
    expires = given["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= MAX_EXPIRES:
        raise Refused(Reason.INCOMPLETE, f"X-Amz-Expires must be a number of seconds between 1 and {MAX_EXPIRES}.")
    return _claim(
        given["X-Amz-Credential"],
        given["X-Amz-SignedHeaders"],
        given["X-Amz-Signature"],
        given["X-Amz-Date"],
        int(expires),
        given.get("X-Amz-Security-Token", request.headers.get("x-amz-security-token", b"").decode("latin-1")) or None,
    )


def _claim(credential: str, signed: str, signature: str, timestamp: str, expires: int | None, token: str | None) -> Claim:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not all(parts):
        raise Refused(
            Reason.INCOMPLETE,
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential[:256]}'.",
        )
    access_key, date, region, service, terminator = parts
    if terminator != TERMINATOR:
        raise Refused(
            Reason.BAD_SIGNATURE,
            f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator[:64]}'.",
        )
    return Claim(access_key, date, region, service, tuple(signed.split(";")), signature, timestamp, expires, token)


def _date_header(value: bytes | None) -> str | None:
    """The time of a Date header (RFC 9110 or ISO 8601 basic) in ISO 8601 basic format; None where there is none."""
    if value is None:
        return None
    text = value.decode("latin-1")
    if _BASIC_DATE.fullmatch(text):
        return text
    try:
        return parsedate_to_datetime(text).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError):
        return None


def verify(
    request: HttpRequest, claim: Claim, service: str, keys: KeyLookup, now: datetime, payload: str | None = None
) -> Principal:
    """The principal that signed `request`, which is meant for the service with signing name `service`, at time `now` (UTC).

    `payload` is for S3, whose bodies come later: what the request states of its body, which is signed in the place of its hash,
    and which the caller holds the body against. Then the path is encoded once, all x-amz- headers have to be signed, and a
    signature may be 15 minutes old.

    Raises Refused for an unknown key, a session token that is not the key's, a scope that is not this service's or no region's,
    a time outside ±5 minutes (or outside the validity of a presigned request), a signature that does not match what came, and
    temporary credentials whose time is over.
    """
    principal = keys(claim.access_key)
    if principal is None or not _is_its(claim.token, principal):
        raise Refused(Reason.UNKNOWN_KEY, "The security token included in the request is invalid.")
    if claim.service != service:
        raise Refused(Reason.BAD_SIGNATURE, f"Credential should be scoped to correct service: '{service}'.")
    if not _REGION.fullmatch(claim.region):
        raise Refused(Reason.BAD_SIGNATURE, f"Credential should be scoped to a valid region, not '{claim.region[:64]}'.")
    _check_time(claim, now, MAX_SKEW if payload is None else MAX_SKEW_OF_S3)
    _check_signed_headers(request, claim, payload is not None)
    expected = _signature(request, claim, principal.secret, payload)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode("latin-1")):
        raise Refused(
            Reason.BAD_SIGNATURE,
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        )
    if principal.expires is not None and now >= principal.expires:
        raise Refused(Reason.EXPIRED_TOKEN, "The security token included in the request is expired")
    return principal


def _is_its(token: str | None, principal: Principal) -> bool:
    """Whether a request's session token, or that it has none, is right for the principal."""
    if token is None or principal.token is None:
        return token is None and principal.token is None
    return hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), principal.token)


def _check_time(claim: Claim, now: datetime, skew: timedelta) -> None:
    try:
        signed = datetime.fromisoformat(claim.timestamp) if _BASIC_DATE.fullmatch(claim.timestamp) else None
    except ValueError:
        signed = None
    if signed is None:
        raise Refused(Reason.INCOMPLETE, f"Date must be in ISO-8601 'basic format'. Got '{claim.timestamp[:64]}'.")
    if claim.date != claim.timestamp[:8]:
        raise Refused(
            Reason.BAD_SIGNATURE,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.date[:64]}' != '{claim.timestamp[:8]}', from '{claim.timestamp}'.",
        )
    validity = skew if claim.expires is None else timedelta(seconds=claim.expires)
    minutes = int(skew.total_seconds() // 60)
    if now - signed > validity:
        raise Refused(
            Reason.EXPIRED,
            f"Signature expired: {_basic(signed)} is now earlier than {_basic(now - validity)} "
            f"({_basic(now)} - {int(validity.total_seconds()) // 60} min.)",
        )
    if signed - now > skew:
        raise Refused(
            Reason.EXPIRED,
            f"Signature not yet current: {_basic(signed)} is still later than {_basic(now + skew)} "
            f"({_basic(now)} + {minutes} min.)",
        )


def _basic(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _check_signed_headers(request: HttpRequest, claim: Claim, every: bool) -> None:
    if "host" not in claim.signed_headers:
        raise Refused(Reason.BAD_SIGNATURE, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    for name in [name for name in request.headers if name.startswith("x-amz-")] if every else _MUST_BE_SIGNED:
        if name in request.headers and name not in claim.signed_headers:
            raise Refused(Reason.BAD_SIGNATURE, f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _signature(request: HttpRequest, claim: Claim, secret: str, payload: str | None) -> str:
    """The signature (lower-case hex) that `request` should carry. The payload's hash is computed from what came, but for S3."""
    if payload is None:
        payload = hashlib.sha256(request.body).hexdigest()
        stated = request.headers.get("x-amz-content-sha256")
        if stated is not None and stated != payload.encode():
            raise Refused(Reason.BAD_SIGNATURE, "The provided 'x-amz-content-sha256' header does not match what was computed.")
        # Every service but S3 encodes the path as it comes once more.
        path = quote_from_bytes(request.path, safe="/-_.~").encode()
    else:
        path = quote_from_bytes(unquote_to_bytes(request.path), safe="/-_.~").encode()
    lines = [request.method.encode(), path, _canonical_query(request.query, claim.expires is not None)]
    for name in claim.signed_headers:
        lines.append(name.encode("latin-1") + b":" + b" ".join(request.headers.get(name, b"").split()))
    lines += [b"", ";".join(claim.signed_headers).encode("latin-1"), payload.encode("latin-1")]
    canonical = hashlib.sha256(b"\n".join(lines)).hexdigest()
    to_sign = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n{canonical}"
    key = signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.new(key, to_sign.encode("latin-1"), hashlib.sha256).hexdigest()


def _canonical_query(query: bytes, presigned: bool) -> bytes:
    """The query with each name and value percent-encoded anew, sorted; without the signature, where that is in it."""
    if not query:
        return b""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if part and not (presigned and name == b"X-Amz-Signature"):
            pairs.append((_percent(name), _percent(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


def _percent(text: bytes) -> str:
    return quote_from_bytes(unquote_to_bytes(text), safe="-_.~")


@lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key derived from a secret for a day, region and service. The secret is part of the cache's key: a key that was
    rotated or revoked is never served from here."""
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.new(key, part.encode("latin-1"), hashlib.sha256).digest()
    return key
