"""What S3 answers to requests that are not from whom they say, and while it cannot look."""

from __future__ import annotations

from phalanx.wire.errors import AwsError
from phalanx.wire.sigv4 import HttpRequest, Reason, Refused

AWAY = AwsError(
    "ServiceUnavailable", "What is needed for that cannot be reached now, so nothing is done. Try again later.", 503
)
_OUTDATED = AwsError(
    "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)
_FORM = AwsError(
    "NotImplemented", "Forms (presigned POST) are not implemented here, so nothing is done. Use a presigned PUT.", 501
)
"""Its signature is in the body."""


def refusal(refused: Refused, http: HttpRequest) -> AwsError:
    """What S3 answers to a request that is not from whom it says."""
    if refused.reason in (Reason.UNSIGNED, Reason.INCOMPLETE) and _is_outdated(http):
        return _OUTDATED
    if refused.reason == Reason.UNSIGNED and http.headers.get("content-type", b"").startswith(b"multipart/form-data"):
        return _FORM
    presigned = b"X-Amz-Signature=" in http.query
    code, status, text = {
        Reason.UNSIGNED: ("AccessDenied", 403, "Access Denied"),
        Reason.INCOMPLETE: (
            "AuthorizationQueryParametersError" if presigned else "AuthorizationHeaderMalformed",
            400,
            refused.message,
        ),
        Reason.UNKNOWN_KEY: ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
        Reason.BAD_SIGNATURE: ("SignatureDoesNotMatch", 403, refused.message),
        Reason.EXPIRED: (
            ("AccessDenied", 403, "Request has expired")
            if presigned
            else ("RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large.")
        ),
        Reason.EXPIRED_TOKEN: ("ExpiredToken", 400, "The provided token has expired."),
        Reason.THROTTLED: ("SlowDown", 503, "Please reduce your request rate."),
    }[refused.reason]
    return AwsError(code, text, status)


def _is_outdated(http: HttpRequest) -> bool:
    """Whether a request is signed as before SigV4: boto3 and the AWS CLI still make presigned URLs so, unless they are told."""
    return b"AWSAccessKeyId=" in http.query or http.headers.get("authorization", b"").startswith(b"AWS ")
