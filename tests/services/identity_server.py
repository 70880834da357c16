"""All services on a live server whose guard asks the callers' policies, and requests to it as no SDK would make them."""

import contextlib
import http.client
import itertools
import json
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from asgi import listening
from phalanx.identity import access_keys, names
from phalanx.identity.authority import Authority
from phalanx.identity.directory import Directory
from phalanx.identity.seal import Seal
from phalanx.identity.throttle import Throttle
from phalanx.identity.trail import Trail
from phalanx.jobs.keyring import Keyring
from phalanx.services.cloudwatch.service import service as cloudwatch
from phalanx.services.ec2.service import ensure_default_vpc
from phalanx.services.ec2.service import service as ec2
from phalanx.services.iam.service import service as iam
from phalanx.services.kms.service import service as kms
from phalanx.services.logs.service import service as logs
from phalanx.services.phalanx.service import service as phalanx
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sagemaker_metrics.service import service as sagemaker_metrics
from phalanx.services.sts.service import service as sts
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import AccessKey, InlinePolicy, User
from phalanx.wire.app import application
from phalanx.wire.loader import service_model

ACCOUNT, REGION = "123456789012", "us-west-2"


class Control:
    """A jobs room that finds everything in order."""

    def __getattr__(self, name):
        return lambda *_: None

    def knows_image(self, uri):
        return True

    def keeps(self, uri):
        return True

    def has_objects(self, uri, role):
        return True


@dataclass
class Reply:
    status: int
    body: bytes

    @property
    def error(self):
        """Code and message."""
        if self.body.startswith(b"{"):
            content = json.loads(self.body)
            return content["__type"], content.get("message") or content.get("Message", "")
        code, message = (re.search(f"<{tag}>(.*?)</{tag}>", self.body.decode(), re.DOTALL) for tag in ("Code", "Message"))
        return (code[1] if code else ""), (message[1] if message else "")


class Server:
    """A live server with its own store; `key` is the administrator's."""

    def __init__(self, directory, throttle=None):
        self.path = directory
        self.database = Database(sqlite_url(directory / "phalanx.db"))
        self.database.migrate()
        ensure_default_vpc(self.database, REGION)
        self.directory = Directory(self.database, Seal(directory / "identity.key"), ACCOUNT)
        self.key = access_keys.administrators(self.database, self.directory.seal)
        self.trail = Trail(directory / "audit", ACCOUNT)
        control = Control()
        services = [
            sagemaker(self.database, control),
            ec2(self.database, control),
            logs(self.database),
            kms(self.database, Keyring(self.database, directory / "root.key")),
            cloudwatch(self.database),
            sagemaker_metrics(self.database),
            iam(self.directory),
            sts(self.directory),
            phalanx(self.database, control),
        ]
        guard = Authority(self.directory, self.trail, throttle or Throttle(burst=100_000))
        self.app = application(services, self.directory.principal, ACCOUNT, guard)
        self._numbers = itertools.count(1)
        self.url = ""

    def user(self, *statements):
        """The access key of a new user with these statements for a policy; its name is user-N."""
        name = f"user-{next(self._numbers)}"
        id, secret = names.access_key_id("AKIA"), names.secret_key()
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        with self.database.write() as session:
            session.add(User(name=name, id=names.unique_id("AIDA"), tags={"team": "vision"}))
            session.add(AccessKey(id=id, secret=self.directory.seal.close(secret, id), user_name=name, active=True, created=0))
            if statements:
                session.add(InlinePolicy(kind="user", owner=name, name="policy", document=document))
        self.directory.changed()
        return id, secret

    def signed(self, key, service, operation, members=None, headers=None, region=REGION):
        """Headers and body of a signed request; `members` of the Query services are flat."""
        model = service_model(service)
        body, given = encoded(model, operation, members or {})
        method, path = address(model, operation)
        request = AWSRequest(method, f"{self.url}{path}", {**given, **(headers or {})}, body)
        SigV4Auth(Credentials(*key), model.signing_name, region).add_auth(request)
        return dict(request.headers.items()), body

    def ask(self, key, service, operation, members=None, headers=None, region=REGION):
        """Send a signed request."""
        where = address(service_model(service), operation)
        return self.send(*where, *self.signed(key, service, operation, members, headers, region))

    def send(self, method, target, headers, body=b""):
        """Send a request as it is."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read())
        finally:
            connection.close()


def address(model, operation):
    """Method and path of requests of an operation."""
    http = model.operation_model(operation).http if model.metadata["protocol"] == "rest-json" else {}
    return http.get("method", "POST"), http.get("requestUri", "/")


def encoded(model, operation, members):
    """Body and headers of a request, not signed."""
    if model.metadata["protocol"] == "rest-json":
        return json.dumps(members).encode(), {"content-type": "application/json"}
    if "json" in model.metadata["protocols"]:
        target = f"{model.metadata['targetPrefix']}.{operation}"
        return json.dumps(members).encode(), {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    form = urlencode({"Action": operation, "Version": model.api_version, **members}).encode()
    return form, {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


@contextlib.contextmanager
def running(directory, throttle=None):
    """A live server."""
    server = Server(directory, throttle)
    try:
        with listening(server.app, "critical") as server.url:
            yield server
    finally:
        server.trail.close()
        server.database.close()
