"""Who is let in: botocore's signatures, and everything that is wrong with others."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from phalanx.wire.sigv4 import HttpRequest, Principal, Reason, Refused, claim, signing_key, verify
from wire.conftest import ACCESS_KEY, REGION, SECRET, Server, keys
from wire.raw import FORM, call_query, send, sign

URL = "http://localhost:8080/"
BODY = b'{"TrainingJobName": "first"}'
HEADERS = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "SageMaker.StopTrainingJob", "host": "localhost:8080"}


def signed(
    method: str = "POST", url: str = URL, body: bytes = BODY, headers: dict[str, str] | None = None, **changes: Any
) -> HttpRequest:
    """A request signed by botocore for sagemaker; `changes` are what is signed with."""
    request = AWSRequest(method, url, dict(HEADERS if headers is None else headers), body)
    credentials = Credentials(changes.pop("key", ACCESS_KEY), changes.pop("secret", SECRET), changes.pop("token", None))
    service, region = changes.pop("service", "sagemaker"), changes.pop("region", REGION)
    presign = changes.pop("expires", None)
    assert not changes
    if presign is None:
        SigV4Auth(credentials, service, region).add_auth(request)
    else:
        SigV4QueryAuth(credentials, service, region, expires=presign).add_auth(request)
    return HttpRequest(
        method,
        urlsplit(request.url).query.encode(),
        {name.lower(): value.encode() for name, value in request.headers.items()},
        request.body or b"",  # presigning moves a body into the query
    )


def check(request: HttpRequest, at: datetime | None = None) -> Principal:
    return verify(request, claim(request), "sagemaker", keys, at or datetime.now(UTC))


def refused(request: HttpRequest, at: datetime | None = None) -> tuple[Reason, str]:
    with pytest.raises(Refused) as caught:
        check(request, at)
    return caught.value.reason, caught.value.message


def changed(request: HttpRequest, **headers: str | None) -> HttpRequest:
    """The request with headers set (None: removed) after it was signed; underscores are hyphens."""
    new = dict(request.headers)
    for name, value in headers.items():
        name = name.replace("_", "-")
        if value is None:
            new.pop(name)
        else:
            new[name] = value.encode()
    return HttpRequest(request.method, request.query, new, request.body)


# ------------------------------------------------------------------------------------------------------------- let in


def test_the_key_derivation_of_the_documentation() -> None:
    """The example of "Examples of how to derive a signing key" in the AWS General Reference."""
    key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20120215", "us-east-1", "iam")
    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def test_headers_and_presigned_queries() -> None:
    for request in (signed(), signed(expires=60), signed(method="GET", body=b"", expires=60)):
        assert check(request).arn.endswith("user/admin")


@given(
    query=st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
    ),
    body=st.binary(),
    header=st.text(st.sampled_from("ab \t,;=é")),
)
def test_any_request_that_botocore_signs(query: list[tuple[str, str]], body: bytes, header: str) -> None:
    """Names that repeat and characters of all kinds: both sides have to agree on one canonical form."""
    text = urlencode([pair for pair in query if pair[0]]).replace("+", "%20").replace("~", "~")
    url = f"{URL}?{text}" if text else URL
    request = signed(url=url, body=body, headers={**HEADERS, "x-note": header})
    assert check(request)


def test_a_date_header_instead_of_x_amz_date() -> None:
    request = signed(headers={**HEADERS, "Date": "replaced by the signer"})
    assert "x-amz-date" not in request.headers
    assert check(request)


def test_any_well_formed_region() -> None:
    for region in ("us-east-1", "us-gov-west-1", "us-isob-east-1", "ap-southeast-7", "mx-central-1"):
        assert check(signed(region=region))


# ------------------------------------------------------------------------------------------------------------ refused


def test_unsigned() -> None:
    bare = HttpRequest("POST", b"", {name: value.encode() for name, value in HEADERS.items()}, BODY)
    assert refused(bare)[0] is Reason.UNSIGNED


def test_unknown_keys_and_session_tokens() -> None:
    assert refused(signed(key="AKIAUNKNOWN"))[0] is Reason.UNKNOWN_KEY
    assert refused(signed(token="of a role"))[0] is Reason.UNKNOWN_KEY
    assert refused(signed(token="of a role", expires=60))[0] is Reason.UNKNOWN_KEY


def test_whatever_was_signed_may_not_change() -> None:
    for request in (signed(), signed(expires=60)):
        for forged in (
            HttpRequest(request.method, request.query, request.headers, request.body + b" "),
            HttpRequest("PUT", request.query, request.headers, request.body),
            HttpRequest(request.method, request.query + b"&x=y", request.headers, request.body),
            changed(request, host="other:8080"),
            changed(request, x_amz_target="SageMaker.DeleteModel"),
            changed(request, x_amz_target=None),
        ):
            assert refused(forged)[0] is Reason.BAD_SIGNATURE
    assert refused(signed(secret="guessed"))[0] is Reason.BAD_SIGNATURE
    assert refused(signed(secret="guessed", expires=60))[0] is Reason.BAD_SIGNATURE


def test_headers_that_decide_have_to_be_signed() -> None:
    """Else a man in the middle could turn a request for one operation into one for another."""
    without = {name: value for name, value in HEADERS.items() if name != "x-amz-target"}
    reason, message = refused(changed(signed(headers=without), x_amz_target="SageMaker.DeleteModel"))
    assert (reason, message) == (Reason.BAD_SIGNATURE, "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.")
    request = signed()
    header = request.headers["authorization"].decode().replace("host;", "")
    reason, message = refused(changed(request, authorization=header))
    assert (reason, message.partition(" must")[0]) == (Reason.BAD_SIGNATURE, "'Host' or ':authority'")


def test_a_stated_payload_hash_has_to_be_true() -> None:
    for stated in ("UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0" * 64):
        reason, message = refused(signed(headers={**HEADERS, "X-Amz-Content-SHA256": stated}))
        assert reason is Reason.BAD_SIGNATURE
        assert "x-amz-content-sha256" in message


def test_time() -> None:
    request = signed()
    stamp = datetime.strptime(request.headers["x-amz-date"].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    five = timedelta(minutes=5)
    assert check(request, stamp + five)
    assert check(request, stamp - five)
    reason, message = refused(request, stamp + five + timedelta(seconds=1))
    text, next_second, now = (
        (stamp + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%SZ") for seconds in (0, 1, five.seconds + 1)
    )
    assert reason is Reason.EXPIRED
    assert message == f"Signature expired: {text} is now earlier than {next_second} ({now} - 5 min.)"
    reason, message = refused(request, stamp - five - timedelta(seconds=1))
    assert reason is Reason.EXPIRED
    assert message.startswith(f"Signature not yet current: {text} is still later than ")


def test_time_of_presigned_queries() -> None:
    request = signed(expires=3600)
    stamp = datetime.strptime(dict(parse_qsl(request.query.decode()))["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert check(request, stamp + timedelta(hours=1))
    assert refused(request, stamp + timedelta(hours=1, seconds=1))[0] is Reason.EXPIRED
    assert refused(request, stamp - timedelta(minutes=6))[0] is Reason.EXPIRED
    for expires in (0, 604801, -1):
        assert refused(signed(expires=expires))[0] is Reason.INCOMPLETE


def test_scopes() -> None:
    assert refused(signed(service="ec2")) == (
        Reason.BAD_SIGNATURE,
        "Credential should be scoped to correct service: 'sagemaker'.",
    )
    for region in ("", "EU-CENTRAL-1", "eu-central-1x", "eu-central-1\n"):
        assert refused(signed(region=region or "-"))[0] is Reason.BAD_SIGNATURE
    request = signed()
    header = request.headers["authorization"].decode()
    assert refused(changed(request, authorization=header.replace("aws4_request", "aws5")))[0] is Reason.BAD_SIGNATURE
    other = header.replace(f"{ACCESS_KEY}/2", f"{ACCESS_KEY}/1")
    reason, message = refused(changed(request, authorization=other))
    assert reason is Reason.BAD_SIGNATURE
    assert message.startswith("Date in Credential scope does not match")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer x",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ,,,===",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, Signature=x",
        "AWS4-HMAC-SHA256 Credential=a//c/d/aws4_request, SignedHeaders=host, Signature=x",
        "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=x",
    ],
)
def test_headers_that_are_no_signature(header: str) -> None:
    assert refused(changed(signed(), authorization=header))[0] is Reason.INCOMPLETE


@pytest.mark.parametrize("date", ["", "now", "2026-01-01T00:00:00Z", "20261340T000000Z", "20260101T000000"])
def test_dates_that_are_none(date: str) -> None:
    assert refused(changed(signed(), x_amz_date=date))[0] is Reason.INCOMPLETE


def test_presigned_queries_that_lack_something() -> None:
    request = signed(expires=60)
    parts = request.query.split(b"&")
    for missing in parts:
        query = b"&".join(part for part in parts if part != missing)
        reason = refused(HttpRequest("POST", query, request.headers, request.body))[0]
        assert reason in (Reason.INCOMPLETE, Reason.BAD_SIGNATURE), missing


@given(header=st.text(st.characters(max_codepoint=255)), query=st.binary())
def test_nothing_but_refused_is_raised(header: str, query: bytes) -> None:
    for prefix in ("", "AWS4-HMAC-SHA256 ", f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/d/r/s/aws4_request,Signature="):
        headers = {**signed().headers, "authorization": (prefix + header).encode("latin-1")}
        with pytest.raises(Refused):
            check(HttpRequest("POST", query, headers, BODY))
        del headers["authorization"]
        with pytest.raises(Refused):
            check(HttpRequest("POST", b"X-Amz-Signature=" + query, headers, BODY))


# --------------------------------------------------------------------------------------------------- AWS's codes, live

CALLS = [
    ("sagemaker", "search"),
    ("logs", "get_log_events"),
    ("sts", "get_caller_identity"),
    ("ec2", "describe_security_groups"),
]
CODES: dict[str, dict[str, tuple[str, int]]] = {
    "unsigned": {
        "json": ("MissingAuthenticationTokenException", 400),
        "sts": ("MissingAuthenticationToken", 403),
        "ec2": ("MissingAuthenticationToken", 403),
    },
    "unknown key": {
        "json": ("UnrecognizedClientException", 400),
        "sts": ("InvalidClientTokenId", 403),
        "ec2": ("AuthFailure", 401),
    },
    "token": {
        "json": ("UnrecognizedClientException", 400),
        "sts": ("InvalidClientTokenId", 403),
        "ec2": ("AuthFailure", 401),
    },
    "wrong secret": {
        "json": ("InvalidSignatureException", 400),
        "sts": ("SignatureDoesNotMatch", 403),
        "ec2": ("AuthFailure", 401),
    },
}
CHANGES: dict[str, dict[str, Any]] = {
    "unsigned": {"config": Config(signature_version=UNSIGNED)},
    "unknown key": {"aws_access_key_id": "AKIAUNKNOWN"},
    "token": {"aws_session_token": "of a role"},
    "wrong secret": {"aws_secret_access_key": "guessed"},
}


@pytest.mark.parametrize(("service", "call"), CALLS)
@pytest.mark.parametrize("wrong", list(CODES))
def test_refusals_have_awss_codes(server: Server, service: str, call: str, wrong: str) -> None:
    before = len(server.calls.seen)
    with pytest.raises(ClientError) as caught:
        getattr(server.client(service, **CHANGES[wrong]), call)()
    response = caught.value.response
    codes = CODES[wrong]
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == codes.get(service, codes["json"])
    assert len(server.calls.seen) == before


def test_stale_requests_have_awss_codes(server: Server) -> None:
    old = format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)
    bodies = {
        "sts": b"Action=GetCallerIdentity&Version=2011-06-15",
        "ec2": b"Action=DescribeSecurityGroups&Version=2016-11-15",
        "sagemaker": b"{}",
    }
    codes = {"sts": "SignatureDoesNotMatch", "ec2": "RequestExpired", "sagemaker": "InvalidSignatureException"}
    for service, body in bodies.items():
        headers = sign("POST", server.url + "/", body, HEADERS | {"Date": old} if service == "sagemaker" else FORM, service)
        headers = {name: value for name, value in headers.items() if name.lower() not in ("x-amz-date", "date", "host")}
        date = "20200101T000000Z"
        headers["Authorization"] = re.sub(r"/[0-9]{8}/", f"/{date[:8]}/", headers["Authorization"])
        reply = send("POST", server.url, body, {**headers, "X-Amz-Date": date})
        # Time is looked at before the signature, which is not worth computing for a request of 2020.
        assert reply.code == codes[service]


def test_a_scope_of_another_service(server: Server) -> None:
    headers = sign("POST", server.url + "/", b"{}", {**HEADERS, "host": urlsplit(server.url).netloc}, "logs")
    reply = send("POST", server.url, b"{}", headers)
    assert reply.code == "InvalidSignatureException"
    assert b"Credential should be scoped to correct service: 'sagemaker'." in reply.body


def test_a_scope_of_an_unserved_service_still_needs_a_signature(server: Server) -> None:
    headers = sign("POST", server.url + "/", b"Action=X", FORM, "s3", secret="guessed")
    assert send("POST", server.url, b"Action=X", headers).code == "SignatureDoesNotMatch"
    assert call_query(server.url, "s3", b"Action=X").code == "InvalidAction"


def test_secrets_do_not_show() -> None:
    principal = keys(ACCESS_KEY)
    assert principal is not None
    assert SECRET not in repr(principal)
