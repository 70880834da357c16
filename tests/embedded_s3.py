"""The real embedded S3, rclone's server and the door in front of it, over a store of identities of its own."""

import contextlib
import itertools
import json
import socket

import boto3
from botocore.config import Config

from phalanx.cli import s3 as embedded
from phalanx.data.model import ObjectStore
from phalanx.identity import access_keys, names
from phalanx.identity.seal import Seal
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import AccessKey, InlinePolicy, User

ACCOUNT, REGION = "123456789012", "us-west-2"


def free_port():
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def allow(*actions, on="*", effect="Allow", **condition):
    """A statement."""
    made = {"Effect": effect, "Action": list(actions), "Resource": on}
    return made | ({"Condition": condition} if condition else {})


class S3:
    """A store of identities and an S3 for them in `directory`; `key` is the administrator's."""

    def __init__(self, directory):
        self.directory = directory
        self.database = Database(sqlite_url(directory / "phalanx.db"))
        self.database.migrate()
        self.seal = Seal(directory / "identity.key")
        self.key = access_keys.administrators(self.database, self.seal)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = ObjectStore(self.url, REGION, *self.key)
        self.server = self.make(self.port)
        self._numbers = itertools.count(1)

    def make(self, port, **settings):
        """The embedded S3, to be started."""
        store = ObjectStore(f"http://127.0.0.1:{port}", REGION, *self.key)
        told = embedded.settings(self.directory, str(self.database.url), ACCOUNT, ("127.0.0.1", port), **settings)
        (self.directory / "s3").mkdir(exist_ok=True)
        return embedded.EmbeddedS3(self.directory / "s3", self.directory / "s3.log", told, store)

    def user(self, *statements):
        """The access key of a new user with these statements for a policy; its name is user-N."""
        name = f"user-{next(self._numbers)}"
        id, secret = names.access_key_id("AKIA"), names.secret_key()
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        with self.database.write() as session:
            session.add(User(name=name, id=names.unique_id("AIDA"), tags={"team": "vision"}))
            session.add(AccessKey(id=id, secret=self.seal.close(secret, id), user_name=name, active=True, created=0))
            if statements:
                session.add(InlinePolicy(kind="user", owner=name, name="policy", document=document))
        return id, secret

    def client(self, key=None, token=None, url=None, **config):
        """An unmodified boto3 client."""
        session = boto3.session.Session(*(key or self.key), token, region_name=REGION)
        settings = {"retries": {"total_max_attempts": 1}, "signature_version": "s3v4", **config}
        return session.client("s3", endpoint_url=url or self.url, config=Config(**settings))

    def close(self):
        """End it."""
        self.server.stop()
        self.database.close()


@contextlib.contextmanager
def running(directory):
    """A live one."""
    s3 = S3(directory)
    try:
        s3.server.start()
        yield s3
    finally:
        s3.close()
