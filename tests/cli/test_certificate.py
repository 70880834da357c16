"""The service's own certificate: clients that trust its authority take it, and nobody else does."""

import datetime
import socket
import ssl
import threading

import pytest

from phalanx.cli import certificate
from phalanx.cli.serve import _is_loopback, _over_tls, _Tls


def handshake(files, authority, name, version=None):
    """What a client sees that trusts `authority` and calls the server `name`: the protocol's version. Raises ssl.SSLError."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files[0], files[1])
    server.set_ciphers(_over_tls(_Tls(*files))["ssl_ciphers"])
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if version is not None:
        client.minimum_version = client.maximum_version = version
    ours, theirs = socket.socketpair()

    def serve():
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (OSError, ssl.SSLError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            return connection.version()
    finally:
        ours.close()
        thread.join()


@pytest.fixture
def files(tmp_path):
    return certificate.ensure(tmp_path / "tls", "192.0.2.7")


@pytest.mark.parametrize("name", ["192.0.2.7", "127.0.0.1", "localhost", socket.gethostname()])
def test_who_trusts_the_authority_takes_it(files, name):
    assert handshake(files, files[2], name) == "TLSv1.3"
    assert handshake(files, files[2], name, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"


def test_nobody_else_does(files, tmp_path):
    other = certificate.ensure(tmp_path / "other", "192.0.2.7")
    for authority, name in ((other[2], "192.0.2.7"), (files[2], "192.0.2.8"), (None, "192.0.2.7")):
        with pytest.raises(ssl.SSLError):
            handshake(files, authority, name)


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_what_is_damaged_or_missing_is_made_anew(files, name, content):
    damaged = files[0].with_name(name)
    damaged.unlink() if content is None else damaged.write_bytes(content)
    again = certificate.ensure(files[0].parent, "192.0.2.7")
    assert again == files
    assert handshake(again, again[2], "192.0.2.7") == "TLSv1.3"


def test_keys_are_their_owners_alone_and_the_authority_has_none(files):
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["authority.pem", "server.key", "server.pem"]


def test_it_is_made_anew_for_another_host_and_when_it_is_nearly_over(files, monkeypatch):
    first = files[0].read_bytes()
    assert certificate.ensure(files[0].parent, "192.0.2.7")[0].read_bytes() == first
    assert certificate.ensure(files[0].parent, "192.0.2.9")[0].read_bytes() != first
    second = files[0].read_bytes()
    monkeypatch.setattr(certificate, "RENEWED", certificate.VALID + datetime.timedelta(days=1))
    assert certificate.ensure(files[0].parent, "192.0.2.9")[0].read_bytes() != second


def test_what_is_loopback():
    assert [_is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [_is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "host.example", "localhost.example")] == [False] * 5
