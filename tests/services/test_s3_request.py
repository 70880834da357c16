"""Whatever comes, S3's door understands it, or refuses it with an error of S3's; what it passes on is what it understood."""

from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.services.s3 import deletion
from phalanx.services.s3.payload import Payload, stated
from phalanx.services.s3.request import possible, understand
from phalanx.wire.errors import AwsError
from phalanx.wire.sigv4 import Claim

ACCOUNT = "123456789012"
CLAIM = Claim("AKIA", "20260101", "us-west-2", "s3", ("host",), "0" * 64, "20260101T000000Z", None, None)
words = st.sampled_from(
    [b"/", b"//", b"bucket-1", b"a/b", b"%2e%2e", b"..", b"%00", b"%ff", b"%2F", b"?", b"+", b"%20", b"key", b"\xc3\xa9", b""]
)
names = st.sampled_from(
    [
        "uploads",
        "uploadId",
        "delete",
        "partNumber",
        "prefix",
        "delimiter",
        "list-type",
        "versionId",
        "acl",
        "x-id",
        "max-keys",
        "response-content-type",
        "X-Amz-Signature",
        "x-amz-acl",
        "x-amz-copy-source",
        "X-Amz-Meta-a",
        "location",
    ]
)
values = st.one_of(st.sampled_from(["", "1", "2", "a/b", "../x/", "/", "null", "private", "bucket-1/a?versionId=x"]), st.text())
headers = st.sampled_from(
    [
        "x-amz-copy-source",
        "x-amz-acl",
        "x-amz-meta-a",
        "content-type",
        "range",
        "if-none-match",
        "content-encoding",
        "x-amz-expected-bucket-owner",
        "x-amz-metadata-directive",
        "x-amz-tagging",
        "content-length",
        "x-amz-checksum-crc32",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "transfer-encoding",
    ]
)


@settings(max_examples=500)
@given(
    st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "PATCH"]),
    st.one_of(st.lists(words).map(lambda parts: b"/" + b"".join(parts)), st.binary()),
    st.one_of(
        st.lists(st.tuples(names, values)).map(
            lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode(errors="surrogatepass")
        ),
        st.binary(),
    ),
    st.dictionaries(headers, st.one_of(st.binary(max_size=40), values.map(lambda text: text.encode(errors="surrogatepass")))),
)
def test_any_request_is_understood_or_refused(method, path, query, given):
    try:
        request = understand(method, path, query, given, ACCOUNT)
    except AwsError as error:
        if error.status not in (400, 403, 404, 405, 501):
            raise
        return
    target = request.target.decode("ascii")
    assert not any(character in target for character in " \r\n#")
    assert all(b"\r" not in value and b"\n" not in value for _, value in request.overrides)
    assert not any(end in name for name, _ in request.headers for end in (b"\r", b"\n", b":"))
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
    assert (bucket, key) == (request.members.get("Bucket", ""), request.members.get("Key", ""))
    if not request.impossible:
        assert not {"", ".", ".."} & set(key.split("/") if key else [])
    if request.operation.startswith("ListObjects"):
        assert parse_qs(parts.query, keep_blank_values=True).get("prefix", [""]) == [request.members.get("Prefix", "")]


@pytest.mark.parametrize("name", ["a: b\r\nx-amz-copy-source: /other/secret\r\nx", "a\nb", "a b", "a:", "é", "☃", "\0"])
def test_a_parameter_is_no_more_than_the_header_that_it_stands_for(name):
    """Of a presigned URL: policies are asked for what the request was understood to be."""
    for operation in ("PUT", "GET"):
        with pytest.raises(AwsError, match="cannot be a header's"):
            understand(operation, b"/bucket-1/key", f"X-Amz-Meta-{quote(name)}=1".encode(), {}, ACCOUNT)


@settings(max_examples=300)
@given(
    st.sampled_from(
        f"UNSIGNED-PAYLOAD {'0' * 64} STREAMING-AWS4-HMAC-SHA256-PAYLOAD STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
        " STREAMING-UNSIGNED-PAYLOAD-TRAILER x".split()
    ),
    st.dictionaries(headers, st.sampled_from([b"", b"0", b"5", b"-1", b"x", b"x-amz-checksum-crc32", b"chunked"])),
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"5;chunk-signature=" + b"0" * 64 + b"\r\n", b"fffffffff\r\n"]
            ),
            st.just(b"x" * 2000),
        )
    ),
)
def test_any_body_is_taken_or_refused(what, given, pieces):
    try:
        payload = Payload(given, stated({"x-amz-content-sha256": what.encode()}, False), CLAIM, "secret")
        taken = sum(len(each) for piece in pieces for each in payload.feed(piece))
        payload.finish()
    except AwsError as error:
        if error.status not in (400, 403, 411):
            raise
    else:
        assert taken == payload.length


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(), st.text().map(lambda text: f"<Delete><Object><Key>{text}</Key></Object></Delete>".encode(errors="replace"))
    )
)
def test_any_document_is_read_or_refused(document):
    try:
        asked = deletion.read(document)
        for key in asked.keys:
            possible(key)
    except AwsError as error:
        if error.status != 400:
            raise
        return
    assert deletion.read(deletion.write(asked.keys)).keys == asked.keys


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Delete><Object><Key>a</Key></Object></Delete>',
        b"<Delete></Delete>",
        b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>",
        b"<Delete><Object><Key>a</Key><Surprise/></Object></Delete>",
    ],
)
def test_documents_that_declare_or_hold_what_they_should_not_are_refused(document):
    with pytest.raises(AwsError, match="well-formed"):
        deletion.read(document)
