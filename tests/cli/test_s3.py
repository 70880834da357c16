"""The life of the embedded S3: two processes that are found again, replaced and mended."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

import embedded_s3
from phalanx.data import objects
from phalanx.data.process import ProcessError


@pytest.fixture
def s3(tmp_path):
    s3 = embedded_s3.S3(tmp_path)
    try:
        yield s3
    finally:
        s3.close()


def running(directory, name):
    return int((directory / "s3" / f"{name}.lock").read_text())


def listed(s3):
    return [each["Name"] for each in objects.client(s3.store).list_buckets()["Buckets"]]


def test_who_starts_it_again_finds_both_and_replaces_a_door_with_other_settings(s3, tmp_path):
    s3.server.start()
    objects.ensure_bucket(s3.store, "kept")
    before = running(tmp_path, "gateway"), running(tmp_path, "server")
    environment = Path(f"/proc/{before[0]}/environ").read_bytes()
    assert s3.key[1].encode() not in environment
    again = s3.make(s3.port)
    again.start()
    assert (running(tmp_path, "gateway"), running(tmp_path, "server")) == before
    s3.port = embedded_s3.free_port()
    s3.server = s3.make(s3.port)
    s3.server.start()
    assert running(tmp_path, "server") == before[1]
    assert running(tmp_path, "gateway") != before[0]
    assert [each["Name"] for each in objects.client(s3.server.store).list_buckets()["Buckets"]] == ["kept"]
    s3.server.stop()
    for pid in (*before, running(tmp_path, "gateway")):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("name", ["gateway", "server"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_whichever_dies_or_hangs_is_noticed_and_replaced(s3, tmp_path, name, blow):
    s3.server.start()
    objects.ensure_bucket(s3.store, "kept")
    assert s3.server.answers(10)
    pid = running(tmp_path, name)
    os.kill(pid, blow)
    while s3.server.answers(0.5):
        time.sleep(0.01)
    s3.server.start()
    assert running(tmp_path, name) != pid
    assert listed(s3) == ["kept"]


def test_a_taken_port_is_an_error_that_says_so(s3, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", s3.port))
        other.listen()
        with pytest.raises(ProcessError, match=r"cannot listen on 127.0.0.1 port .*in use.*remove .*/s3.port "):
            s3.server.start()
    s3.server.stop()


def test_what_the_door_counted_is_shown(s3):
    s3.server.start()
    assert {"phalanx_s3_requests", "phalanx_s3_bytes"} <= {family.name for family in s3.server.metrics()}
    s3.server.stop()
    assert list(s3.server.metrics()) == []
