"""What a request to S3 asks for, and how the server behind is asked for it.

What is passed on is written anew from what was understood here: nothing that policies have not been asked about can reach the
server by another reading of the same bytes. What is not understood is refused, as AWS refuses what a store does not implement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from phalanx.services.s3 import conditions, description, ranges
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members

LONGEST_KEY, LONGEST_PART = 1024, 255
"""Bytes of a key (S3's limit), and of what lies between its slashes, which is a file's name (the file system's)."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PLAIN = re.compile(r"[\x20-\x7e\x80-\xff]*")
"""What a header's value may hold (RFC 9110 §5.5)."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""What a header's name may hold, in lower case (RFC 9110 §5.6.2)."""
_TEMPORARY = ".rclone_"
"""How the server's own names begin."""

_NONE: frozenset[str] = frozenset()
_LISTING = frozenset(
    {
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "encoding-type",
        "list-type",
        "continuation-token",
        "start-after",
        "fetch-owner",
    }
)
_OVERRIDES = {
    "response-content-type": b"content-type",
    "response-content-language": b"content-language",
    "response-expires": b"expires",
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": b"content-encoding",
}
"""Parameters of GetObject that set headers of its answer."""
_OPERATIONS: dict[tuple[str, str], dict[str, tuple[str, frozenset[str]]]] = {
    ("service", "GET"): {"": ("ListBuckets", frozenset({"max-buckets", "prefix", "continuation-token"}))},
    ("bucket", "GET"): {
        "location": ("GetBucketLocation", _NONE),
        "versioning": ("GetBucketVersioning", _NONE),
        "uploads": (
            "ListMultipartUploads",
            frozenset({"prefix", "delimiter", "encoding-type", "key-marker", "upload-id-marker", "max-uploads"}),
        ),
        "": ("ListObjects", _LISTING),
    },
    ("bucket", "HEAD"): {"": ("HeadBucket", _NONE)},
    ("bucket", "PUT"): {"": ("CreateBucket", _NONE)},
    ("bucket", "DELETE"): {"": ("DeleteBucket", _NONE)},
    ("bucket", "POST"): {"delete": ("DeleteObjects", _NONE)},
    ("object", "GET"): {
        "uploadId": ("ListParts", frozenset({"max-parts", "part-number-marker", "encoding-type"})),
        "tagging": ("GetObjectTagging", frozenset({"versionId"})),
        "": ("GetObject", frozenset({"versionId", *_OVERRIDES})),
    },
    ("object", "HEAD"): {"": ("HeadObject", frozenset({"versionId"}))},
    ("object", "PUT"): {"uploadId": ("UploadPart", frozenset({"partNumber"})), "": ("PutObject", _NONE)},
    ("object", "DELETE"): {"uploadId": ("AbortMultipartUpload", _NONE), "": ("DeleteObject", frozenset({"versionId"}))},
    ("object", "POST"): {
        "uploads": ("CreateMultipartUpload", _NONE),
        "uploadId": ("CompleteMultipartUpload", _NONE),
    },
}
"""By level and method: operations by the parameter that tells them from others, and the parameters that they know."""
_SIGNATURE = frozenset(
    f"x-amz-{name}"
    for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature", "security-token", "content-sha256")
)
_UNDERSTOOD = _SIGNATURE | {
    "x-amz-acl",
    "x-amz-api-version",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-copy-source",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-metadata-directive",
    "x-amz-object-ownership",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    # The client learns from the answer that it has no effect; the platform encrypts what a job with a KmsKeyId writes itself.
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-source-expected-bucket-owner",
    "x-amz-storage-class",
    "x-amz-tagging-directive",
    "x-amz-trailer",
    "x-amz-user-agent",
}
"""Headers that are heeded, or that change nothing here. Any other would not be obeyed, so it is refused."""
_MEMBERS = {
    "x-amz-acl": "ACL",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}
_CONDITIONS = {"if-match": "IfMatch", "if-none-match": "IfNoneMatch"}
_ACLS = ("private", "bucket-owner-full-control")
"""The only ones that a bucket with its ACLs disabled takes, as buckets have them unless told otherwise."""
COPYING = frozenset({"CopyObject", "UploadPartCopy"})
_OF_SOURCE = "x-amz-copy-source-"
"""How the headers begin that say which part of a copy's source is meant, and on what conditions."""
_OF_OPERATION = {
    "CompleteMultipartUpload": frozenset({"x-amz-mp-object-size"}),
    "CopyObject": frozenset(_OF_SOURCE + name for name in conditions.NAMES),
    "UploadPartCopy": frozenset(_OF_SOURCE + name for name in (*conditions.NAMES, "range")),
}
"""Headers that are heeded of one operation."""
_CHANGING = frozenset({"x-amz-storage-class", "x-amz-server-side-encryption"})
"""What a copy of an object onto itself may be asked for, besides another description: it has no effect here."""
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})")
_CONDITIONAL = {
    "PutObject": tuple(_CONDITIONS),
    "CompleteMultipartUpload": tuple(_CONDITIONS),
    "CopyObject": tuple(_CONDITIONS),
    "DeleteObject": ("if-match",),
}
"""Operations that may depend on what is there, by these headers: that the object is this one still, or that there is none."""
WRITING = COPYING | {"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"}
"""Operations that make objects."""


@dataclass(frozen=True, slots=True)
class Source:
    """The object that a copy is of: which of its bytes are meant (first and last; None: all), on what conditions, by the names
    of the headers that a request for it would have, and whether the copy is described as it is, or by the request."""

    bucket: str
    key: str
    span: tuple[int, int] | None
    conditions: Mapping[str, bytes]
    describes: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was understood. `members` are named as botocore's model does; `target` and `headers` ask the server."""

    operation: str
    members: Members
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    overrides: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that the answer is to have in place of its own."""
    impossible: bool = False
    """Whether no object can have this key here: the server's objects are files."""
    folder: str = ""
    """The folder that the key names, where it ends with a slash."""
    conditions: Mapping[str, bytes] = field(default_factory=dict)
    """On what is there, by their headers' names: for a write or a deletion."""
    source: Source | None = None
    upload: str = ""
    """The ID of the multipart upload that it is about."""


def understand(method: str, path: bytes, query: bytes, headers: Mapping[str, bytes], account: str) -> Request:
    """What a request asks for: `path` and `query` as they came, header names in lower case. Raises AwsError."""
    bucket, key = _name(path)
    level = "service" if not bucket else "object" if key else "bucket"
    parameters, hoisted = _parameters(query)
    given = hoisted | {name: value.decode("latin-1") for name, value in headers.items() if name.startswith("x-amz-")}
    among = _OPERATIONS.get((level, method))
    if among is None:
        raise AwsError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    telling = next((name for name in among if name and name in parameters), "")
    if telling not in among:
        raise _not_implemented(f"{method} of {'a bucket' if level == 'bucket' else 'an object'} without a parameter")
    operation, known = among[telling]
    for name in parameters:
        if name not in known and name != telling:
            raise _not_implemented(f"The parameter {name[:64]} of {operation}")
    if operation == "ListObjects" and "list-type" in parameters:
        operation = "ListObjectsV2"
    if "x-amz-copy-source" in given and operation in ("PutObject", "UploadPart"):
        operation = "CopyObject" if operation == "PutObject" else "UploadPartCopy"
    members: Members = {"Bucket": bucket} if bucket else {}
    if key:
        members["Key"] = key
    _check_parameters(operation, parameters, members)
    passed = _headers(operation, headers, given, account, members)
    wanted = {name: headers[name] for name in _CONDITIONAL.get(operation, ()) if name in headers}
    members |= {_CONDITIONS[name]: value.decode("latin-1") for name, value in wanted.items()}
    source = _source(operation, given, members) if operation in COPYING else None
    if (
        source is not None
        and source.describes
        and (source.bucket, source.key) == (bucket, key)
        and not given.keys() & _CHANGING
    ):
        raise AwsError(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's"
            " metadata, storage class, website redirect location or encryption attributes.",
        )
    return Request(
        operation,
        members,
        target(bucket, key, parameters),
        tuple(passed),
        tuple((_OVERRIDES[name], _value(name, value)) for name, value in parameters.items() if name in _OVERRIDES),
        bool(key) and not possible(key),
        key[:-1] if key.endswith("/") and possible(key[:-1]) else "",
        wanted,
        source,
        parameters.get("uploadId", ""),
    )


def possible(key: str) -> bool:
    """Whether an object can have this key here. Raises AwsError for one that is longer than any may be."""
    parts = key.split("/")
    if len(key.encode()) > LONGEST_KEY or any(len(part.encode()) > LONGEST_PART for part in parts):
        raise AwsError("KeyTooLongError", "Your key is too long, or a part of it between slashes is: 255 bytes here.")
    return not any(part in ("", ".", "..") or part.startswith(_TEMPORARY) or "\0" in part for part in parts)


def _not_implemented(what: str) -> AwsError:
    return AwsError("NotImplemented", f"{what} is not implemented here, so nothing is done.", 501)


def _name(path: bytes) -> tuple[str, str]:
    """Bucket and key of a path; path-style addresses alone are served."""
    try:
        first, _, rest = path.removeprefix(b"/").partition(b"/")
        bucket, key = unquote_to_bytes(first).decode(), unquote_to_bytes(rest).decode()
    except UnicodeDecodeError:
        raise AwsError("InvalidURI", "Couldn't parse the specified URI.") from None
    if (bucket or key) and (not _BUCKET.fullmatch(bucket) or ".." in bucket):
        raise AwsError("InvalidBucketName", "The specified bucket is not valid.")
    return bucket, key


def _parameters(query: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters of a query that say what is asked for, and those that stand for headers, in lower case."""
    found: dict[str, str] = {}
    hoisted: dict[str, str] = {}
    for part in query.split(b"&") if query else []:
        raw_name, _, raw_value = part.partition(b"=")
        try:
            name = unquote_to_bytes(raw_name.replace(b"+", b" ")).decode()
            value = unquote_to_bytes(raw_value.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise AwsError("InvalidURI", "Couldn't parse the specified URI.") from None
        into = hoisted if name.lower().startswith("x-amz-") else found
        name = name.lower() if into is hoisted else name
        if name in into:
            raise AwsError("InvalidArgument", f"The parameter {name[:64]} is given twice.")
        if name not in ("", "x-id"):
            into[name] = value
    return found, hoisted


def _check_parameters(operation: str, parameters: dict[str, str], members: Members) -> None:
    if parameters.get("versionId", "null") != "null":
        raise AwsError("NoSuchVersion", "Objects have no versions here.", 404)
    if "uploadId" in parameters and not parameters["uploadId"]:
        raise AwsError("NoSuchUpload", "The specified upload does not exist.", 404)
    if operation == "UploadPart":
        number = parameters.get("partNumber", "")
        if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 10_000:
            raise AwsError("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    if operation == "ListBuckets":
        number = parameters.pop("max-buckets", "10000")
        if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 10_000:
            raise AwsError("InvalidArgument", "Argument max-buckets must be an integer between 1 and 10000")
        # The server gives all.
        members["MaxBuckets"] = int(number)
        members["BucketPrefix"] = parameters.pop("prefix", "")
        members["ContinuationToken"] = parameters.pop("continuation-token", "")
    if operation in ("ListObjects", "ListObjectsV2", "ListMultipartUploads"):
        prefix = parameters.get("prefix", "")
        if parameters.get("list-type", "2") != "2":
            raise AwsError("InvalidArgument", "Invalid List Type specified in Request")
        if parameters.get("delimiter", "") not in ("", "/"):
            raise _not_implemented("A delimiter other than /")
        # No key begins with a slash here; the server would take such a prefix for the one without it.
        no_folder = prefix.startswith("/") or {".", ".."} & set(prefix.split("/")[:-1])
        if (prefix and not prefix.strip()) or "\0" in prefix or no_folder:
            raise _not_implemented("A prefix that cannot be a folder's")
        number = parameters.get("max-keys", "1000")
        if not re.fullmatch(r"[0-9]{1,9}", number):
            raise AwsError("InvalidArgument", "Argument max-keys must be an integer between 0 and 2147483647")
        # Where the request has none, policies find none: Null holds for it.
        members |= {member: parameters[member.lower()] for member in ("Prefix", "Delimiter") if member.lower() in parameters}
        if "max-keys" in parameters:
            members["MaxKeys"] = int(number)
            if members["MaxKeys"] == 0:
                # Which the server takes for no limit (`answers.listing`).
                parameters["max-keys"] = "1"


def target(bucket: str, key: str, parameters: Mapping[str, str]) -> bytes:
    """How the server is asked for a bucket or an object, as the first line of a request has it."""
    path = "/" + bucket + ("/" + quote(key, safe="/-_.~") if key else "")
    passed = {name: value for name, value in parameters.items() if name not in _OVERRIDES and name != "versionId"}
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in passed.items())
    return f"{path}?{query}".encode() if query else path.encode()


def _headers(
    operation: str, headers: Mapping[str, bytes], given: Mapping[str, str], account: str, members: Members
) -> list[tuple[bytes, bytes]]:
    """The headers that the server is sent. Fills `members` with what policies may ask about."""
    for name in given:
        # Those that parameters stand for may hold anything, and would end a line on the way to the server.
        if not _TOKEN.fullmatch(name):
            raise AwsError("InvalidArgument", "The name of a parameter that stands for a header cannot be a header's.")
        algorithm = name.removeprefix("x-amz-checksum-")
        if name in _UNDERSTOOD or name.startswith("x-amz-meta-") or (algorithm != name and operation in WITH_CHECKSUM):
            continue
        if name in _OF_OPERATION.get(operation, ()):
            continue
        raise _not_implemented(f"The header {name[:64]} of {operation}")
    for name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"):
        if given.get(name, account) != account:
            raise AwsError("AccessDenied", "Access Denied", 403)
    if given.get("x-amz-acl", "private") not in _ACLS:
        raise AwsError("AccessControlListNotSupported", "The bucket does not allow ACLs")
    members |= {member: given[name] for name, member in _MEMBERS.items() if name in given}
    if (size := given.get("x-amz-mp-object-size")) is not None:
        if not re.fullmatch(r"[0-9]{1,15}", size):
            raise AwsError("InvalidArgument", "x-amz-mp-object-size must be a number of bytes.")
        members["MpuObjectSize"] = int(size)
    passed = [(name.encode("latin-1"), _value(name, value)) for name, value in given.items() if name.startswith("x-amz-meta-")]
    if operation in WRITING or operation == "DeleteObject":
        for name in conditions.NAMES:
            if name in headers and name not in _CONDITIONAL.get(operation, ()):
                raise _not_implemented(f"The header {name} of {operation}")
        if headers.get("if-none-match", b"*").strip() != b"*":
            raise _not_implemented(f"The header if-none-match of {operation} with anything but *")
    if operation in WRITING:
        passed += [
            (name.encode(), headers[name]) for name in description.HEADERS if name in headers and name != "content-encoding"
        ]
        passed += [(b"content-md5", headers["content-md5"])] if "content-md5" in headers and operation not in COPYING else []
        codings = [each.strip() for each in headers.get("content-encoding", b"").split(b",")]
        codings = [each for each in codings if each not in (b"", b"aws-chunked")]
        if codings:
            passed.append((b"content-encoding", b", ".join(codings)))
    elif operation in ("GetObject", "HeadObject"):
        passed += [(b"range", headers["range"])] if ranges.is_span(headers.get("range", b"")) else []
    return passed


WITH_CHECKSUM = frozenset({"PutObject", "UploadPart", "DeleteObjects", "CreateBucket"})
"""Operations whose x-amz-checksum- headers are about the request's body."""


def _source(operation: str, given: Mapping[str, str], members: Members) -> Source:
    """What a copy reads. Fills `members` with what policies ask about."""
    bucket, key = _name_of_source(given["x-amz-copy-source"])
    members["CopySource"] = f"{bucket}/{key}"
    span = None
    if (text := given.get(f"{_OF_SOURCE}range")) is not None:
        found = _RANGE.fullmatch(text)
        if found is None or int(found[1]) > int(found[2]):
            raise AwsError(
                "InvalidArgument",
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based"
                " offsets of the first and last bytes to copy",
            )
        span = int(found[1]), int(found[2])
    held = {name: _encoded(given[_OF_SOURCE + name]) for name in conditions.NAMES if _OF_SOURCE + name in given}
    directive = given.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise AwsError("InvalidArgument", "Unknown metadata directive.")
    return Source(bucket, key, span, held, operation == "CopyObject" and directive == "COPY")


def _name_of_source(text: str) -> tuple[str, str]:
    """Bucket and key of a copy's source."""
    name, _, query = _encoded(text).partition(b"?")
    if query not in (b"", b"versionId=null"):
        raise AwsError("NoSuchVersion", "Objects have no versions here.", 404)
    bucket, key = _name(name if name.startswith(b"/") else b"/" + name)
    if not key:
        raise AwsError("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    if not possible(key):
        raise AwsError("NoSuchKey", "The specified key does not exist.", 404)
    return bucket, key


def _encoded(text: str) -> bytes:
    """A header's bytes; those of a parameter that stands for one may be any characters."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _value(name: str, value: str) -> bytes:
    if not _PLAIN.fullmatch(value):
        raise AwsError("InvalidArgument", f"The value of {name[:64]} cannot be a header's.")
    return value.encode("latin-1")
