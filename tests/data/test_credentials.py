"""A role's credentials, as a container's SDK finds them: by the process that gives them, whoever started it."""

import http.client
import json
import os
import signal
import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.credentials import ContainerProvider
from botocore.utils import ContainerMetadataFetcher

from phalanx.data import credentials
from phalanx.data.credentials import Endpoint
from phalanx.data.model import RoleCredentials

PATH = "/v2/credentials/0f2a"
LENT = RoleCredentials(
    "arn:aws:iam::123456789012:role/trainer",
    "ASIAEXAMPLE",
    "secret",
    "token",
    (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0),
)


class Instance:
    """The directories of an instance, and a port where its container would look."""

    def __init__(self, directory):
        self.disk, self.secrets = directory / "disk", directory / "secrets"
        for made in (self.disk, self.secrets):
            made.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def endpoint(self):
        return Endpoint(PATH, self.disk, self.secrets)

    def start(self, endpoint):
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            endpoint.start(listener)

    def pid(self):
        return int((self.disk / "lender.lock").read_text())

    def ask(self):
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        asking.request("GET", PATH)
        return json.loads(asking.getresponse().read())


@pytest.fixture
def instance(tmp_path):
    made = Instance(tmp_path)
    yield made
    made.endpoint().stop()


def test_an_sdk_finds_them_and_finds_new_ones_later(instance, monkeypatch):
    endpoint = instance.endpoint()
    endpoint.lend(LENT)
    instance.start(endpoint)
    monkeypatch.setattr(ContainerMetadataFetcher, "IP_ADDRESS", f"127.0.0.1:{instance.port}")
    found = ContainerProvider({credentials.VARIABLE: PATH}).load()
    frozen = found.get_frozen_credentials()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("ASIAEXAMPLE", "secret", "token")
    assert found._expiry_time == LENT.expires
    # Another agent lends, and what it lends is shorter.
    instance.endpoint().lend(replace(LENT, access_key="ASIANEXT", token=""))
    found._expiry_time = datetime.now(UTC)
    assert found.get_frozen_credentials().access_key == "ASIANEXT"
    assert instance.ask()["RoleArn"] == LENT.role


def test_nothing_is_given_before_it_was_lent_and_a_process_that_was_killed_is_missed(instance):
    endpoint = instance.endpoint()
    assert not endpoint.idle()
    endpoint.lend(LENT)
    assert endpoint.idle()
    instance.start(endpoint)
    assert not endpoint.idle()
    assert not instance.endpoint().idle(), "who came later finds it too"
    os.kill(instance.pid(), signal.SIGKILL)
    while not endpoint.idle():
        pass
    instance.start(instance.endpoint())
    assert instance.ask()["AccessKeyId"] == "ASIAEXAMPLE"


def test_a_process_that_was_stopped_is_no_zombie(instance):
    endpoint = instance.endpoint()
    endpoint.lend(LENT)
    instance.start(endpoint)
    instance.ask()
    endpoint.stop()
    assert not Path(f"/proc/{instance.pid()}").exists()
    endpoint.stop()
    assert endpoint.idle()


def test_the_process_may_nothing(instance):
    endpoint = instance.endpoint()
    endpoint.lend(LENT)
    instance.start(endpoint)
    assert instance.ask()["AccessKeyId"] == "ASIAEXAMPLE"
    told = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{instance.pid()}/status").read_text().splitlines() if ":\t" in line
    )
    assert told["Uid"].split() == told["Gid"].split() == ["65534"] * 4
    assert told["Groups"].split() == []
    assert {told[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert told["NoNewPrivs"] == "1"


def test_what_was_lent_is_read_by_root_alone_and_in_no_log(instance):
    endpoint = instance.endpoint()
    endpoint.lend(LENT)
    assert (instance.secrets / "lent").stat().st_mode & 0o777 == 0o600
    instance.start(endpoint)
    instance.ask()
    assert not any(hidden in repr(LENT) for hidden in ("secret'", "token'"))
    assert (instance.disk / "lender.log").read_text() == ""
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(instance.pid())], capture_output=True, text=True, check=True
    ).stdout
    assert "ASIA" not in shown
