"""The server's answers as S3 gives them: what it leaves out is filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from phalanx.services.s3.document import DECLARATION, compose, elements
from phalanx.wire.errors import AwsError
from phalanx.wire.serializer import xml_text
from phalanx.wire.service import Members

_BUCKET = re.compile(rb"<Bucket>\s*<Name>([^<]+)</Name>.*?</Bucket>", re.DOTALL)
_DATE = re.compile(rb"<CreationDate>[^<]*</CreationDate>")
_DISPLAY_NAME = re.compile(rb"\s*<DisplayName>[^<]*</DisplayName>")
_ETAG = re.compile(rb"<ETag>([^<&\"]*)</ETag>")
_OF_ONE = re.compile(rb"\s*<(Contents|CommonPrefixes|KeyCount|NextContinuationToken|NextMarker)>.*?</\1>", re.DOTALL)
"""What a listing of one entry has that one of none has not."""
_END = b"</ListBucketResult>"
_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_CODES = {"BucketAlreadyExists": "BucketAlreadyOwnedByYou"}
"""All buckets are the one account's."""
_MESSAGES = {
    "BucketAlreadyOwnedByYou": "Your previous request to create the named bucket succeeded and you already own it.",
    "BucketNotEmpty": "The bucket you tried to delete is not empty. Delete its objects first.",
    "EntityTooSmall": "Your proposed upload is smaller than the minimum allowed object size.",
    "InvalidRange": "The requested range is not satisfiable",
    "MalformedXML": "The XML you provided was not well-formed or did not validate against our published schema.",
    "MetadataTooLarge": "Your metadata headers exceed the maximum allowed metadata size: 1900 bytes here, with their names and"
    " all other headers that describe the object.",
    "NoSuchBucket": "The specified bucket does not exist",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchUpload": "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or"
    " completed.",
    "NotImplemented": "A part that has been written cannot be replaced by one of other content here. Abort the upload, and"
    " begin another one.",
}
"""In AWS's words ("Error responses" in the S3 API reference), but for what nothing else than a part sent again comes to."""


NO_TAGS = compose("Tagging", "<TagSet></TagSet>")
"""GetObjectTagging's answer."""


def listing(operation: str, answer: bytes, most: int | None) -> bytes:
    """A listing (ListBucketResult) with quotes around ETags, and a KeyCount of 0. Where `most` (max-keys) is 0 the server was
    asked for one entry."""
    answer = _ETAG.sub(rb"<ETag>&quot;\1&quot;</ETag>", answer)
    if most == 0:
        answer = _OF_ONE.sub(b"", answer).replace(b"<MaxKeys>1<", b"<MaxKeys>0<")
        answer = answer.replace(b"<IsTruncated>true<", b"<IsTruncated>false<")
    if operation == "ListObjectsV2" and b"<KeyCount>" not in answer:
        answer = answer.replace(_END, b"  <KeyCount>0</KeyCount>\n" + _END)
    return answer


def buckets(answer: bytes, prefix: str, after: str, most: int) -> bytes:
    """ListBuckets' answer, made of the server's, which has all: at most so many whose names begin with `prefix` and come behind
    `after`, the token of the answer before."""
    told = {found[1].decode(): found[0] for found in _BUCKET.finditer(answer)}
    names = sorted(name for name in told if name.startswith(prefix) and name > after)
    head, _, _ = answer.partition(b"<Buckets>")
    listed = b"".join(told[name] for name in names[:most])
    token = f"<ContinuationToken>{names[most - 1]}</ContinuationToken>" if len(names) > most else ""
    given = f"<Prefix>{xml_text(prefix)}</Prefix>" if prefix else ""
    return head + b"<Buckets>" + listed + f"</Buckets>{token}{given}</ListAllMyBucketsResult>".encode()


def dated(answer: bytes, made: Callable[[str], datetime]) -> bytes:
    """ListBuckets' answer with the times at which buckets were made, and without the server's name for their owner."""

    def of(found: re.Match[bytes]) -> bytes:
        time = made(found[1].decode()).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return _DATE.sub(f"<CreationDate>{time}</CreationDate>".encode(), found[0])

    return _BUCKET.sub(of, _DISPLAY_NAME.sub(b"", answer))


def error(status: int, answer: bytes) -> AwsError:
    """What a refusal of the server (4xx) says."""
    found = _CODE.search(answer)
    code = "InvalidRequest" if found is None else found[1].decode()
    code = _CODES.get(code, code)
    return AwsError(code, _MESSAGES.get(code, "The S3 server refuses the request."), status)


def fault(error: AwsError, request_id: str) -> bytes:
    """An error's document, which has no namespace."""
    told = {"Code": error.code, "Message": error.message, "RequestId": request_id, "HostId": request_id}
    return f"{DECLARATION}<Error>{elements(told)}</Error>".encode()


def begun(answer: bytes) -> bytes:
    """CreateMultipartUpload's answer, by the name that clients look for."""
    return answer.replace(b"InitiateMultipartUpload>", b"InitiateMultipartUploadResult>")


def completed(location: str, bucket: str, key: str, etag: str) -> bytes:
    """CompleteMultipartUpload's answer; `location` is the object's URL."""
    told = {"Location": location, "Bucket": bucket, "Key": key, "ETag": etag}
    return compose("CompleteMultipartUploadResult", elements(told))


def copied(operation: str, etag: str, modified: str) -> bytes:
    """CopyObject's and UploadPartCopy's answer; `modified` is an ISO 8601 time."""
    root = "CopyObjectResult" if operation == "CopyObject" else "CopyPartResult"
    return compose(root, elements({"LastModified": modified, "ETag": etag}))


def location(region: str) -> bytes:
    """GetBucketLocation's answer; us-east-1 is the region that has no name there."""
    return compose("LocationConstraint", "" if region == "us-east-1" else region)


REWRITTEN: Mapping[str, Callable[[bytes, Members, str], bytes]] = {
    "ListBuckets": lambda answer, members, _: buckets(
        answer, members["BucketPrefix"], members["ContinuationToken"], members["MaxBuckets"]
    ),
    "ListObjects": lambda answer, members, _: listing("ListObjects", answer, members.get("MaxKeys")),
    "ListObjectsV2": lambda answer, members, _: listing("ListObjectsV2", answer, members.get("MaxKeys")),
    "CreateMultipartUpload": lambda answer, _members, _: begun(answer),
    "GetBucketLocation": lambda _answer, _members, region: location(region),
}
"""By operation, what is made of the server's answer, of the request's members and of the region."""
