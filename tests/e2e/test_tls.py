"""A service that listens beyond loopback: over TLS alone, S3 as well; clients need nothing but what `phalanx env` prints."""

import re
import socket
import ssl
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import SSLError

from clients import AwsCli
from e2e.conftest import Phalanx, free_port, running, wait_for


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with running(tmp_path_factory.mktemp("phalanx"), "--host", "0.0.0.0") as service:
        yield service


def test_everything_is_over_tls(served, tmp_path):
    env = served.env
    assert env["AWS_ENDPOINT_URL"].startswith("https://")
    assert env["AWS_ENDPOINT_URL_S3"].startswith("https://")
    aws = AwsCli(
        tmp_path,
        endpoint=env["AWS_ENDPOINT_URL"],
        region=env["AWS_REGION"],
        access_key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
    )
    aws.environ |= {name: value for name, value in env.items() if name.startswith("AWS_")}
    assert aws("aws sts get-caller-identity")["Arn"].endswith("user/admin")
    (tmp_path / "object").write_bytes(b"over TLS")
    assert aws.run(f"aws s3 cp {tmp_path}/object s3://test-bucket/object").returncode == 0
    assert aws.run("aws s3 cp s3://test-bucket/object -").stdout == "over TLS"
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        with pytest.raises((urllib.error.URLError, ConnectionError)) as caught:
            urllib.request.urlopen(env[name].replace("https:", "http:"))
        # S3 tells who speaks in the clear what to do, and no more.
        assert getattr(caught.value, "code", 400) == 400
    session = boto3.session.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name="us-west-2")
    with pytest.raises(SSLError):
        session.client("sts", endpoint_url=env["AWS_ENDPOINT_URL"], verify=True).get_caller_identity()


def test_what_s3_says_in_the_clear_it_says_on_this_host_alone(served):
    port = int((served.data_dir / "s3.port").read_text())
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    with pytest.raises(OSError), socket.create_connection((socket.gethostbyname(socket.gethostname()), port), 5) as reached:
        # Where the host's name is a loopback address as well, it is the same listener.
        if reached.getpeername()[0].startswith("127."):
            raise OSError


def test_a_running_service_renews_its_certificate_and_who_trusts_it_goes_on(tmp_path, monkeypatch):
    # As if time passed: it looks every second, and finds it nearly over each time.
    (tmp_path / "sitecustomize.py").write_text(
        "from datetime import timedelta\nfrom phalanx.cli import certificate\n"
        "certificate.LOOK_SECONDS, certificate.RENEWED = 1, timedelta(days=398)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    service = Phalanx(tmp_path / "data", free_port(), ("--host", "0.0.0.0"))
    try:
        service.start()
        shown = {ssl.get_server_certificate(("127.0.0.1", service.port))}
        wait_for(lambda: shown != {ssl.get_server_certificate(("127.0.0.1", service.port))}, 60, "another certificate")
        assert service.fresh("sts").get_caller_identity()["Arn"].endswith("user/admin")
        token = (service.data_dir / "metrics.token").read_text()
        asked = urllib.request.Request(
            f"{service.env['AWS_ENDPOINT_URL']}/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        trusting = ssl.create_default_context(cafile=service.env["AWS_CA_BUNDLE"])
        with urllib.request.urlopen(asked, timeout=30, context=trusting) as answer:
            (told,) = re.findall(rb"^phalanx_certificate_expires_seconds (\S+)$", answer.read(), re.MULTILINE)
        assert 396 * 86400 < float(told) < 398 * 86400
    finally:
        service.end()
    assert service.leftovers() == []


def test_the_trail_is_whole(served):
    shown = served.run("trail")
    assert shown.returncode == 0, shown.stderr
    records, last = (line.split()[1] for line in shown.stdout.splitlines())
    assert int(records) > 0
    assert served.run("trail", "--records", records, "--last", last).returncode == 0
    refused = served.run("trail", "--records", records, "--last", "0" * 64)
    assert (refused.returncode, "made anew" in refused.stderr) == (1, True)
