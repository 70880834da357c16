import contextlib
import hashlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phalanx.data import unix_http
from phalanx.data.server import S3Server


def make(directory):
    return S3Server(directory / "s3", directory / "s3.log")


@pytest.fixture
def server(tmp_path):
    server = make(tmp_path)
    try:
        yield server
    finally:
        server.stop()


def ask(directory, method, target, body=None):
    """Status and body of what the server in the directory says to whoever reaches its socket."""
    connection = unix_http.UnixConnection(directory / "s3" / "server.sock", 10)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def servers_in(directory):
    """Numbers of all processes that work in the server's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(directory / "s3"):
                    found.append(int(entry.name))
    return found


def has_read(pid):
    """Bytes that a process has read from files and sockets."""
    return int(re.search(r"rchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[1])


def recorded(directory):
    return int((directory / "s3" / "server.lock").read_text())


def test_it_answers_as_soon_as_start_returns_and_is_gone_after_stop(server, tmp_path):
    server.start()
    status, body = ask(tmp_path, "GET", "/")
    assert status == 200
    assert b"<Buckets>" in body
    assert servers_in(tmp_path) == [recorded(tmp_path)]
    server.stop()
    server.stop()
    assert not server.alive()
    assert servers_in(tmp_path) == []


def test_nobody_but_its_own_user_reaches_it(server, tmp_path):
    server.start()
    assert (tmp_path / "s3" / "server.sock").stat().st_mode & 0o077 == 0
    # No port, of any address.
    assert b"unix://" in Path(f"/proc/{recorded(tmp_path)}/cmdline").read_bytes()
    inodes = set()
    for each in Path(f"/proc/{recorded(tmp_path)}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the connection that asked whether it answers is closed meanwhile
            inodes.add(os.readlink(each))
    assert any(inode.startswith("socket:") for inode in inodes)
    tcp = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert not any(f"socket:[{line.split()[9]}]" in inodes for line in tcp.splitlines() if line.split()[0] != "sl")


def test_after_a_kill_of_its_starter_the_next_one_adopts_it(server, tmp_path):
    program = (
        "import sys, os, signal; from pathlib import Path; from phalanx.data.server import S3Server\n"
        f"S3Server(Path({str(tmp_path / 's3')!r}), Path({str(tmp_path / 's3.log')!r})).start()\n"
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
        f"s = S3Server(Path({str(tmp_path / 's3')!r}), Path({str(tmp_path / 's3.log')!r}))\n"
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


def test_a_killed_server_is_noticed_and_started_again_with_its_objects(server, tmp_path):
    server.start()
    assert ask(tmp_path, "PUT", "/kept")[0] == 200
    assert ask(tmp_path, "PUT", "/kept/a/b", b"content")[0] == 200
    leftover = tmp_path / "s3/buckets/kept/.rclone_temp_put_x"
    leftover.write_text("half")
    os.kill(recorded(tmp_path), signal.SIGKILL)
    while server.alive():
        time.sleep(0.01)
    server.start()
    assert ask(tmp_path, "GET", "/kept/a/b") == (200, b"content")
    assert not leftover.exists()
    assert (tmp_path / "s3/buckets/kept/a/b").stat().st_mode & 0o077 == 0


def test_sums_are_kept_so_that_a_listing_reads_no_objects(server, tmp_path):
    content = os.urandom(1 << 20) * 50
    server.start()
    ask(tmp_path, "PUT", "/kept")
    ask(tmp_path, "PUT", "/kept/a/b", content)

    def listing():
        before = has_read(recorded(tmp_path))
        listed = ask(tmp_path, "GET", "/kept?list-type=2")[1].decode()
        return re.search(r"<ETag>\W*(?:#34;)?(\w{32})\b", listed)[1], has_read(recorded(tmp_path)) - before

    for end in (signal.SIGTERM, signal.SIGKILL):
        etag, read = listing()
        assert etag == hashlib.md5(content).hexdigest()
        assert read < len(content) / 10
        os.kill(recorded(tmp_path), end)
        while server.alive():
            time.sleep(0.01)
        server.start()
    # What others have changed is read.
    (tmp_path / "s3/buckets/kept/a/b").write_bytes(b"other")
    server.stop()
    server.start()
    assert listing()[0] == hashlib.md5(b"other").hexdigest()


def sums(directory):
    (found,) = (directory / "s3/sums").rglob("*.bolt")
    return found


def damaged_head(directory):
    sums(directory).write_bytes(b"nonsense" * 1000)


def damaged_pages(directory):
    """As if a disk had lost all but the pages that say what the file is."""
    file = sums(directory)
    file.write_bytes(file.read_bytes()[:8192] + bytes(file.stat().st_size - 8192))


@pytest.mark.parametrize("damage", [damaged_head, damaged_pages])
def test_damaged_sums_are_made_anew(server, tmp_path, damage):
    server.start()
    ask(tmp_path, "PUT", "/kept")
    for number in range(50):
        ask(tmp_path, "PUT", f"/kept/a{number}", b"content")
    server.stop()
    damage(tmp_path)
    server.start()

    def listed():
        # Where it meets the damage only now, whoever watches it starts it again. One that is about to die may answer once more.
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(tmp_path, "GET", "/kept?list-type=2")[1].count(b"<Key>")
        if not server.answers(1):
            server.start()
        return None

    while (count := listed()) is None:
        pass
    assert count == 50
    assert ask(tmp_path, "PUT", "/kept/b", b"more")[0] == 200
    assert sums(tmp_path).exists()


def test_objects_are_there_without_room_for_sums(server, tmp_path):
    server.start()
    ask(tmp_path, "PUT", "/kept")
    ask(tmp_path, "PUT", "/kept/a", b"content")
    server.stop()
    shutil.rmtree(tmp_path / "s3/sums")
    # Not even a directory can be made.
    (tmp_path / "s3/sums").symlink_to("/dev/full")
    server.start()
    assert ask(tmp_path, "GET", "/kept/a") == (200, b"content")


def test_a_server_that_hangs_is_noticed_and_replaced(server, tmp_path):
    server.start()
    ask(tmp_path, "PUT", "/kept")
    assert server.answers(10)
    pid = recorded(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    while server.answers(0.5):
        time.sleep(0.01)
    assert server.alive()
    server.stop()
    server.start()
    assert server.answers(10)
    assert recorded(tmp_path) != pid
    assert b"<Name>kept</Name>" in ask(tmp_path, "GET", "/")[1]


def test_names_that_unicode_calls_the_same_are_two(server, tmp_path):
    server.start()
    ask(tmp_path, "PUT", "/kept")
    ask(tmp_path, "PUT", "/kept/caf%C3%A9", b"composed")
    assert ask(tmp_path, "GET", "/kept/cafe%CC%81")[0] == 404


def test_an_upload_that_breaks_off_leaves_what_was_there(server, tmp_path):
    server.start()
    ask(tmp_path, "PUT", "/kept")
    ask(tmp_path, "PUT", "/kept/a", b"before")
    connection = unix_http.UnixConnection(tmp_path / "s3" / "server.sock", 10)
    connection.putrequest("PUT", "/kept/a")
    connection.putheader("content-length", "1000000")
    connection.endheaders(b"x" * 500_000)
    connection.close()
    while list((tmp_path / "s3/buckets/kept").glob(".rclone_temp_*")):
        time.sleep(0.01)
    assert ask(tmp_path, "GET", "/kept/a") == (200, b"before")


def test_a_number_that_belongs_to_another_process_is_not_touched(server, tmp_path):
    (tmp_path / "s3").mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (tmp_path / "s3/server.lock").write_text(f"{bystander.pid}\n")
        server.stop()
        server.start()
        server.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_two_servers_run_side_by_side(tmp_path):
    both = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            both.append(make(tmp_path / name))
            both[-1].start()
        ask(tmp_path / "one", "PUT", "/only-one")
        assert b"only-one" not in ask(tmp_path / "two", "GET", "/")[1]
    finally:
        for server in both:
            server.stop()
