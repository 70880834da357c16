"""The service and the door of its S3 listen alike, in the clear and over TLS."""

import inspect
import subprocess
import threading
import urllib.request

import pytest
import uvicorn

from phalanx.cli import certificate, door, listening, serve
from phalanx.wire.service import Client
from phalanx.wire.sigv4 import HttpRequest


async def app(scope, receive, send):
    raise AssertionError("nobody asks")


@pytest.mark.parametrize("module", [serve, door])
def test_the_service_and_the_door_of_s3_listen_alike(module):
    """An SDK that asks one of them every 30 s would make a connection anew each time, where the other's stays."""
    assert "uvicorn.Config(" not in inspect.getsource(module)
    assert "SO_REUSEADDR" not in inspect.getsource(module)
    assert listening.config(app, 1).timeout_keep_alive == 75


def test_over_tls_it_is_the_certificate_that_is_shown(tmp_path):
    files = listening.Tls(*certificate.ensure(tmp_path / "tls", "192.0.2.7"))
    made = listening.config(app, 1, files)
    made.load()
    assert made.ssl is not None
    ciphers = {each["name"] for each in made.ssl.get_ciphers() if each["protocol"] == "TLSv1.2"}
    assert ciphers
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name) for name in ciphers)


def test_links_to_a_certificate_may_come_to_lead_elsewhere(tmp_path):
    files = certificate.ensure(tmp_path / "tls", "192.0.2.7")
    links = [tmp_path / path.name for path in files[:2]]
    for link, path in zip(links, files, strict=False):
        link.symlink_to(path)
    assert listening.tls("127.0.0.1", tmp_path, *links) == listening.Tls(*links)


def test_a_port_that_could_not_be_kept_is_chosen_when_there_is_room(tmp_path):
    """A start on a full disk, where names have room still, leaves no file that keeps each later one from starting."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=True)
    try:
        filling = disk / "filling"
        with pytest.raises(OSError, match="No space left"):
            filling.write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match="No space left"):
            listening.kept_port(disk / "s3.port", "127.0.0.1")
        filling.unlink()
        port = listening.kept_port(disk / "s3.port", "127.0.0.1")
        assert listening.kept_port(disk / "s3.port", "127.0.0.1") == port
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_on_all_addresses_who_comes_by_ipv4_has_an_ipv4_address():
    """So policies that name it as text hold, and records have it as their readers write it."""
    seen = []

    async def noting(scope, receive, send):
        seen.append(Client.of(scope, HttpRequest.of(scope)).address)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    listener = listening.bind("::", 0)
    server = uvicorn.Server(listening.config(noting, 1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    listener.listen()
    thread.start()
    try:
        for host in ("127.0.0.1", "[::1]"):
            urllib.request.urlopen(f"http://{host}:{listener.getsockname()[1]}/", timeout=10).close()
    finally:
        server.should_exit = True
        thread.join()
    assert seen == ["127.0.0.1", "::1"]


def test_what_is_loopback():
    loopback = ("127.0.0.1", "127.9.9.9", "::1", "localhost")
    assert [listening.is_loopback(host) for host in loopback] == [True] * 4
    beyond = ("0.0.0.0", "::", "10.0.0.1", "host.example", "localhost.example")
    assert [listening.is_loopback(host) for host in beyond] == [False] * 5
