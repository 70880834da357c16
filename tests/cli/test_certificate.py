"""The service's own certificate: clients that trust its authority take it, and nobody else does."""

import datetime
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from phalanx.cli import certificate, listening


def handshake(files, authority, name, version=None, server=None):
    """What a client sees that trusts `authority` and calls the server `name`: the protocol's version. Raises ssl.SSLError."""
    if server is None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files[0], files[1])
    server.set_ciphers(listening.CIPHERS)
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


def test_on_all_addresses_it_is_for_those_of_ipv6_too(tmp_path):
    """But for those of a link alone."""
    commands = (
        "ip link set lo up",
        "ip link add wire type veth peer name end",
        "ip link set wire up && ip link set end up",
        "ip addr add fd00:77::5/64 dev wire nodad && ip addr add 192.0.2.7/24 dev wire",
        f'{sys.executable} -c \'import pathlib, phalanx.cli.certificate as c; c.ensure(pathlib.Path("{tmp_path}/tls"), "::")\'',
    )
    subprocess.run(["unshare", "--net", "sh", "-ec", "\n".join(commands)], check=True)
    files = [tmp_path / "tls" / name for name in ("server.pem", "server.key", "authority.pem")]
    for name in ("fd00:77::5", "192.0.2.7", "::1", "localhost"):
        assert handshake(files, files[2], name)
    made = x509.load_pem_x509_certificate(files[0].read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert not [each for each in names.get_values_for_type(x509.IPAddress) if each.is_link_local]


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_what_is_damaged_or_missing_is_made_anew(files, name, content):
    damaged = files[0].with_name(name)
    damaged.unlink() if content is None else damaged.write_bytes(content)
    again = certificate.ensure(files[0].parent, "192.0.2.7")
    assert again == files
    assert handshake(again, again[2], "192.0.2.7") == "TLSv1.3"


def test_keys_are_their_owners_alone(files):
    kept = list(files[0].parent.iterdir())
    assert sorted(path.name for path in kept) == ["authority.key", "authority.pem", "server.key", "server.pem"]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_it_is_made_anew_for_another_host_and_when_it_is_nearly_over_by_the_same_authority(files, monkeypatch, capsys):
    directory, trusted = files[0].parent, files[2].read_bytes()
    shown = [files[0].read_bytes()]
    assert certificate.ensure(directory, "192.0.2.7")[0].read_bytes() == shown[0]
    certificate.renew(directory, "192.0.2.7")
    assert files[0].read_bytes() == shown[0]
    shown.append(certificate.ensure(directory, "192.0.2.9")[0].read_bytes())
    monkeypatch.setattr(certificate, "RENEWED", certificate.VALID + datetime.timedelta(days=1))
    shown.append(certificate.ensure(directory, "192.0.2.9")[0].read_bytes())
    certificate.renew(directory, "192.0.2.9")
    shown.append(files[0].read_bytes())
    assert len(set(shown)) == 4
    assert files[2].read_bytes() == trusted
    assert handshake(files, files[2], "192.0.2.9") == "TLSv1.3"
    assert "another authority" not in capsys.readouterr().out


@pytest.mark.parametrize("gone", [("authority.key", "server.pem"), ("authority.pem",)])
def test_that_there_is_another_authority_is_told(files, gone, capsys):
    trusted = files[2].read_bytes()
    for name in gone:
        # As an earlier version left it; or damaged.
        files[0].with_name(name).write_bytes(b"")
    certificate.ensure(files[0].parent, "192.0.2.7")
    assert files[2].read_bytes() != trusted
    assert handshake(files, files[2], "192.0.2.7") == "TLSv1.3"
    assert "another authority" in capsys.readouterr().out


def test_what_an_earlier_version_has_made_is_kept_while_it_lasts(files):
    made = files[0].read_bytes()
    files[0].with_name("authority.key").unlink()
    certificate.ensure(files[0].parent, "192.0.2.7")
    assert files[0].read_bytes() == made


def test_that_a_running_service_cannot_renew_it_is_told_once_with_what_to_do(files, monkeypatch, capsys):
    made = files[0].read_bytes()
    files[0].with_name("authority.key").unlink()
    certificate.renew(files[0].parent, "192.0.2.7")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(certificate, "RENEWED", certificate.VALID + datetime.timedelta(days=1))
    for _ in range(2):
        certificate.renew(files[0].parent, "192.0.2.7")
    said = capsys.readouterr().out
    assert said.count("start the service again, then eval `phalanx env` anew, and invite the hosts again") == 1
    assert certificate.expires(files[0]).isoformat() in said
    assert files[0].read_bytes() == made


def test_an_authority_that_is_nearly_over_makes_none_that_outlives_it_nor_another_while_the_service_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(certificate, "AUTHORITY_VALID", datetime.timedelta(days=40))
    files = certificate.ensure(tmp_path, "192.0.2.7")
    trusted, shown = files[2].read_bytes(), files[0].read_bytes()
    assert certificate.expires(files[0]) == certificate.expires(files[2])
    monkeypatch.setattr(certificate, "RENEWED", datetime.timedelta(days=41))
    certificate.renew(tmp_path, "192.0.2.7")
    assert (files[0].read_bytes(), files[2].read_bytes()) == (shown, trusted)
    certificate.ensure(tmp_path, "192.0.2.7")
    assert files[2].read_bytes() != trusted


def test_a_server_shows_what_is_put_in_its_place_and_nothing_that_does_not_fit(files, tmp_path):
    other = certificate.ensure(tmp_path / "other", "192.0.2.7")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert certificate.show(server, *files[:2]) == certificate.expires(files[0])
    assert certificate.show(server, other[0], files[1]) is None
    assert handshake(files, files[2], "192.0.2.7", server=server) == "TLSv1.3"
    certificate.show(server, *other[:2])
    assert handshake(files, other[2], "192.0.2.7", server=server) == "TLSv1.3"


@pytest.mark.parametrize("name", ["localhost", "192.0.2.7"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_with_another_kind_of_key_takes_the_place_of_the_one_before(files, tmp_path, name, version):
    """Whether a client says whom it calls or, where that is an address, does not."""
    rsa_key, made = rsa.generate_private_key(65537, 2048), x509.load_pem_x509_certificate(files[0].read_bytes())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another")])
    signed = x509.CertificateBuilder(issuer, issuer, rsa_key.public_key(), x509.random_serial_number())
    signed = signed.not_valid_before(made.not_valid_before_utc).not_valid_after(made.not_valid_after_utc)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    signed = signed.add_extension(names, False).add_extension(x509.BasicConstraints(True, None), True)
    signed = signed.add_extension(x509.SubjectKeyIdentifier.from_public_key(rsa_key.public_key()), False)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    other = tmp_path / "rsa.pem", tmp_path / "rsa.key"
    other[0].write_bytes(signed.add_extension(usage, True).sign(rsa_key, SHA256()).public_bytes(Encoding.PEM))
    other[1].write_bytes(rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = listening.config(None, 1, listening.Tls(*files[:2]))
    server.load()
    for shown, authority in ((other, other[0]), (files[:2], files[2]), (other, other[0])):
        certificate.show(server.ssl, *shown)
        assert handshake(None, authority, name, version, server.ssl)


def test_files_that_change_while_they_are_looked_at_leave_no_server_without_a_key(files, tmp_path, monkeypatch):
    before, after = (certificate.ensure(tmp_path / name, "192.0.2.7") for name in ("before", "after"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*before[:2])
    load = ssl.SSLContext.load_cert_chain

    def late(context, *paths):
        """Somebody replaces the files before it reads them, the key first."""
        files[1].write_bytes(after[1].read_bytes())
        load(context, *paths)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", late)
    assert certificate.show(server, *files[:2]) == certificate.expires(files[0])
    assert handshake(files, files[2], "192.0.2.7", server=server) == "TLSv1.3"
    assert certificate.show(server, *files[:2]) is None
    assert handshake(files, files[2], "192.0.2.7", server=server) == "TLSv1.3"
