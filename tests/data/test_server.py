import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from phalanx.data import objects
from phalanx.data.model import ObjectStore
from phalanx.data.server import S3Server, S3ServerError


def make(directory, port, secret="secret"):
    return S3Server(directory / "s3", "127.0.0.1", port, "AKIATEST", secret, directory / "s3.log")


@pytest.fixture
def server(tmp_path, free_port):
    server = make(tmp_path, free_port())
    try:
        yield server
    finally:
        server.stop()


def servers_in(directory):
    """Numbers of all processes that work in the server's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(directory / "s3"):
                    found.append(int(entry.name))
    return found


def recorded(directory):
    return int((directory / "s3" / "server.lock").read_text())


def test_it_answers_as_soon_as_start_returns_and_is_gone_after_stop(server, tmp_path):
    server.start()
    assert objects.client(server.store).list_buckets()["Buckets"] == []
    assert servers_in(tmp_path) == [recorded(tmp_path)]
    server.stop()
    server.stop()
    assert not server.alive()
    assert servers_in(tmp_path) == []


def test_keys_are_checked_and_not_in_the_command_line(server, tmp_path):
    server.start()
    command = Path(f"/proc/{recorded(tmp_path)}/cmdline").read_bytes()
    assert b"serve" in command
    assert b"secret" not in command
    for access, secret in (("AKIATEST", "wrong"), ("AKIAOTHER", "secret")):
        with pytest.raises(ClientError) as error:
            objects.client(ObjectStore(server.endpoint, "us-east-1", access, secret)).list_buckets()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_after_a_kill_of_its_starter_the_next_one_adopts_it(server, tmp_path):
    program = (
        "import sys, os, signal; from pathlib import Path; from phalanx.data.server import S3Server\n"
        f"S3Server(Path({str(tmp_path / 's3')!r}), '127.0.0.1', {server._port}, 'AKIATEST', 'secret', "
        f"Path({str(tmp_path / 's3.log')!r})).start()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    before = servers_in(tmp_path)
    assert len(before) == 1
    server.start()
    assert servers_in(tmp_path) == before
    assert server.alive()
    server.stop()
    assert servers_in(tmp_path) == []


def test_a_starter_killed_at_any_moment_leaves_at_most_one_server_that_is_found_again(server, tmp_path):
    program = (
        "import sys; from pathlib import Path; from phalanx.data.server import S3Server\n"
        f"s = S3Server(Path({str(tmp_path / 's3')!r}), '127.0.0.1', {server._port}, 'AKIATEST', 'secret', "
        f"Path({str(tmp_path / 's3.log')!r}))\n"
        "print('go', flush=True); s.start()"
    )
    for milliseconds in (0, 1, 2, 4, 8, 16, 32):
        starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        starter.stdout.readline()
        time.sleep(milliseconds / 1000)
        starter.kill()
        starter.wait()
        starter.stdout.close()
        server.start()
        assert servers_in(tmp_path) == [recorded(tmp_path)]
        server.stop()
        assert servers_in(tmp_path) == []


def test_a_server_with_other_keys_or_port_is_replaced(server, tmp_path, free_port):
    server.start()
    first = recorded(tmp_path)
    for other in (make(tmp_path, server._port, "changed"), make(tmp_path, free_port(), "changed")):
        other.start()
        assert recorded(tmp_path) != first
        assert servers_in(tmp_path) == [recorded(tmp_path)]
        objects.client(other.store).list_buckets()
        first = recorded(tmp_path)
    assert not server._process or not server.alive() or recorded(tmp_path) == first


def test_a_killed_server_is_noticed_and_started_again_with_its_objects(server, tmp_path):
    server.start()
    objects.ensure_bucket(server.store, "kept")
    objects.client(server.store).put_object(Bucket="kept", Key="a/b", Body=b"content")
    leftover = tmp_path / "s3/buckets/kept/.rclone_temp_put_x"
    leftover.write_text("half")
    os.kill(recorded(tmp_path), signal.SIGKILL)
    while server.alive():
        time.sleep(0.01)
    server.start()
    assert objects.client(server.store).get_object(Bucket="kept", Key="a/b")["Body"].read() == b"content"
    assert not leftover.exists()
    assert (tmp_path / "s3/buckets/kept/a/b").stat().st_mode & 0o077 == 0


def test_a_server_that_hangs_is_noticed_and_replaced(server, tmp_path):
    server.start()
    objects.client(server.store).create_bucket(Bucket="kept")
    assert server.answers(10)
    pid = int((tmp_path / "s3" / "server.lock").read_text())
    os.kill(pid, signal.SIGSTOP)
    assert server.alive()
    assert not server.answers(0.5)
    server.start()
    assert server.answers(10)
    assert int((tmp_path / "s3" / "server.lock").read_text()) != pid
    assert [bucket["Name"] for bucket in objects.client(server.store).list_buckets()["Buckets"]] == ["kept"]


def test_a_number_that_belongs_to_another_process_is_not_touched(server, tmp_path):
    (tmp_path / "s3").mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (tmp_path / "s3/server.lock").write_text(f"{bystander.pid}\n")
        server.stop()
        server.start()
        server.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_a_taken_port_is_an_error_that_says_so(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = make(tmp_path, other.getsockname()[1])
        with pytest.raises(S3ServerError, match=r"cannot listen on 127.0.0.1:.*in use"):
            server.start()
    assert servers_in(tmp_path) == []


def test_two_servers_run_side_by_side(tmp_path, free_port):
    both = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            both.append(make(tmp_path / name, free_port()))
            both[-1].start()
        objects.ensure_bucket(both[0].store, "only-one")
        assert objects.client(both[1].store).list_buckets()["Buckets"] == []
    finally:
        for server in both:
            server.stop()


def test_multipart_uploads_and_ranged_reads_give_back_what_was_stored(server):
    server.start()
    s3 = objects.client(server.store)
    objects.ensure_bucket(server.store, "big")
    content = os.urandom(20 << 20)
    s3.put_object(Bucket="big", Key="k", Body=content)
    assert s3.get_object(Bucket="big", Key="k", Range="bytes=1000-1999")["Body"].read() == content[1000:2000]
    assert s3.get_object(Bucket="big", Key="k")["Body"].read() == content
