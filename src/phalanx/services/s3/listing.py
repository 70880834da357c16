"""The server's listings of a bucket as S3 gives them."""

from __future__ import annotations

import re

LISTINGS = frozenset({"ListObjects", "ListObjectsV2"})
_ETAG = re.compile(rb"<ETag>([^<&\"]*)</ETag>")
_OF_ONE = re.compile(rb"\s*<(Contents|CommonPrefixes|KeyCount|NextContinuationToken|NextMarker)>.*?</\1>", re.DOTALL)
"""What a listing of one entry has that one of none has not."""
_END = b"</ListBucketResult>"


def completed(operation: str, answer: bytes, most: int | None) -> bytes:
    """The server's answer (ListBucketResult) with what it leaves out: quotes around ETags, a KeyCount of 0. Where `most`
    (max-keys) is 0 it was asked for one entry."""
    answer = _ETAG.sub(rb"<ETag>&quot;\1&quot;</ETag>", answer)
    if most == 0:
        answer = _OF_ONE.sub(b"", answer).replace(b"<MaxKeys>1<", b"<MaxKeys>0<")
        answer = answer.replace(b"<IsTruncated>true<", b"<IsTruncated>false<")
    if operation == "ListObjectsV2" and b"<KeyCount>" not in answer:
        answer = answer.replace(_END, b"  <KeyCount>0</KeyCount>\n" + _END)
    return answer
