"""Requests as no SDK would make them, signed or not."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from wire.conftest import ACCESS_KEY, REGION, SECRET

JSON = {"content-type": "application/x-amz-json-1.1"}
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


@dataclass
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code."""
        if "json" in self.headers["content-type"]:
            return str(json.loads(self.body)["__type"])
        tree = ElementTree.fromstring(self.body)
        return next(node.text or "" for node in tree.iter() if node.tag.rpartition("}")[2] == "Code")


def sign(
    method: str, url: str, body: bytes, headers: dict[str, str], service: str, region: str = REGION, secret: str = SECRET
) -> dict[str, str]:
    """`headers` with a signature."""
    request = AWSRequest(method, url, headers, body)
    SigV4Auth(Credentials(ACCESS_KEY, secret), service, region).add_auth(request)
    return dict(request.headers.items())


def send(method: str, url: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
    """Send a request as it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def call_json(url: str, service: str, target: str, body: bytes) -> Reply:
    """A signed AWS JSON request with any body."""
    return send("POST", url, body, sign("POST", url + "/", body, {**JSON, "x-amz-target": target}, service))


def call_query(url: str, service: str, body: bytes) -> Reply:
    """A signed Query request with any body."""
    return send("POST", url, body, sign("POST", url + "/", body, FORM, service))
