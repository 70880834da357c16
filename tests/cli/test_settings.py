"""What `phalanx serve` writes and the other commands read."""

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
import typer
import yaml
from botocore.exceptions import EndpointConnectionError
from botocore.utils import get_environ_proxies
from typer.testing import CliRunner

from phalanx.cli.env import access, client, env, variables
from phalanx.cli.main import app
from phalanx.cli.settings import AdminKey, Endpoints
from phalanx.cli.stored import database_url

PHALANX = str(Path(sys.executable).parent / "phalanx")


@pytest.fixture
def data_dir(tmp_path):
    Endpoints("http://127.0.0.1:1", "http://127.0.0.1:2", "eu-central-1", account="210987654321").save(tmp_path)
    AdminKey("AKIAEXAMPLE", "se/cr+et'").save(tmp_path)
    return tmp_path


def test_credentials_are_an_aws_file_for_its_owner_alone(data_dir):
    path = data_dir / "credentials"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("[default]\naws_access_key_id = AKIAEXAMPLE\n")
    assert AdminKey.load(data_dir) == AdminKey("AKIAEXAMPLE", "se/cr+et'")


def test_env_points_every_client_at_the_service(data_dir):
    found = variables(data_dir)
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert found["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:2"
    # boto3 and the AWS CLI take the region from AWS_DEFAULT_REGION alone.
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-central-1"
    # Not the user's, which may say where to train, and that traffic is to be encrypted.
    assert "SAGEMAKER_USER_CONFIG_OVERRIDE" not in found
    config = yaml.safe_load(Path(found["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"]).read_text())
    modules = config["SageMaker"]["PythonSDK"]["Modules"]
    assert modules == {"TelemetryOptOut": True, "Session": {"DefaultS3Bucket": "sagemaker-eu-central-1-210987654321"}}


@pytest.mark.parametrize("service", ["sagemaker", "s3", "sts"])
def test_env_wins_over_what_the_shell_holds(data_dir, monkeypatch, tmp_path, service):
    """Else the job and its data would go to AWS itself, or in the clear through a proxy."""
    (tmp_path / "config").write_text("[default]\nignore_configured_endpoint_urls = true\n")
    held = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SESSION_TOKEN": "another's",
        "AWS_SECURITY_TOKEN": "another's",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL_SAGEMAKER": "http://192.0.2.1",
        "AWS_ENDPOINT_URL_S3": "http://192.0.2.1",
        "AWS_ENDPOINT_URL_STS": "http://192.0.2.1",
        "HTTP_PROXY": "http://192.0.2.2:3128",
        "http_proxy": "http://192.0.2.2:3128",
        "no_proxy": "example.org",
    }
    for name, value in held.items():
        monkeypatch.setenv(name, value)
    for name, value in variables(data_dir).items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session()
    assert session.client(service).meta.endpoint_url == f"http://127.0.0.1:{2 if service == 's3' else 1}"
    assert session.get_credentials().token is None
    assert get_environ_proxies("http://127.0.0.1:1/") == {}
    assert variables(data_dir)["no_proxy"] == "example.org,127.0.0.1"  # as in a shell that is given it twice


def test_commands_ask_the_service_whatever_the_shell_says(data_dir, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    monkeypatch.setenv("http_proxy", "http://192.0.2.2:3128")
    with pytest.raises(EndpointConnectionError):  # at the service's address, where none listens
        client(data_dir, "sagemaker").list_training_jobs()


def test_env_keeps_what_the_hosts_administrator_has_configured(data_dir, tmp_path, monkeypatch):
    theirs = {
        "SchemaVersion": "1.0",
        "SageMaker": {
            "TrainingJob": {"EnableInterContainerTrafficEncryption": True},
            "PythonSDK": {"Modules": {"Session": {"DefaultS3ObjectKeyPrefix": "team", "DefaultS3Bucket": "elsewhere"}}},
        },
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(theirs))
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(tmp_path / "theirs.yaml"))
    for _ in range(2):
        ours = variables(data_dir)["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"]
        config = yaml.safe_load(Path(ours).read_text())["SageMaker"]
        assert config["TrainingJob"] == theirs["SageMaker"]["TrainingJob"]
        session = {"DefaultS3ObjectKeyPrefix": "team", "DefaultS3Bucket": "sagemaker-eu-central-1-210987654321"}
        assert config["PythonSDK"]["Modules"]["Session"] == session
        # As in a shell that is given it twice.
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", ours)


def test_each_shell_keeps_its_own_administrators_configuration(data_dir, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("{SchemaVersion: '1.0', SageMaker: {TrainingJob: {}}}")
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(tmp_path))
    first = Path(variables(data_dir)["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"])
    before = first.read_text()
    assert "TrainingJob" in before
    # Another shell, that has none.
    monkeypatch.delenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE")
    second = Path(variables(data_dir)["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"])
    assert "TrainingJob" not in second.read_text()
    assert first.read_text() == before
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(first))
    assert variables(data_dir)["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"] == str(first)


@pytest.mark.parametrize(
    ("given", "content", "words"),
    [
        ("s3://bucket/config.yaml", None, "is s3://bucket/config.yaml, which is not read here"),
        ("config.yaml", None, "cannot be read: No such file"),
        (".", None, "config.yaml, which SAGEMAKER_ADMIN_CONFIG_OVERRIDE names, cannot be read: No such file"),
        ("config.yaml", b"{", "is no YAML"),
        ("config.yaml", b"\xff\xff", "is no YAML"),
        ("config.yaml", b"at: 2026-99-99", "is no YAML"),
        ("config.yaml", b"- SchemaVersion", "holds no mapping"),
        ("config.yaml", b"false", "holds no mapping"),
    ],
)
def test_an_administrators_configuration_that_cannot_be_kept_is_told(data_dir, monkeypatch, capsys, given, content, words):
    monkeypatch.chdir(data_dir)
    if content is not None:
        (data_dir / "config.yaml").write_bytes(content)
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", given)
    with pytest.raises(typer.Exit):
        variables(data_dir)
    assert words in capsys.readouterr().err
    # What does not concern the SDKs goes on.
    assert access(data_dir)["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"


def test_env_lines_survive_a_shell(data_dir):
    script = f'eval "$({PHALANX} env --data-dir {data_dir})" && printf %s "$AWS_SECRET_ACCESS_KEY"'
    shown = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert shown.stdout == "se/cr+et'"


def test_env_waits_for_a_service_that_starts(data_dir, monkeypatch, capsys):
    with socket.socket() as service:
        service.bind(("127.0.0.1", 0))
        # As a service does: the port is taken at once, and listened on when all stands behind it.
        Endpoints(f"http://127.0.0.1:{service.getsockname()[1]}", "http://127.0.0.1:2", "eu-central-1").save(data_dir)
        monkeypatch.setattr("phalanx.cli.env.WAIT_SECONDS", 0.2)
        with pytest.raises(typer.Exit):
            env(data_dir, wait=True)
        refused = capsys.readouterr()
        assert (refused.out, "has not answered" in refused.err) == ("", True)
        monkeypatch.setattr("phalanx.cli.env.WAIT_SECONDS", 60)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(env, data_dir, wait=True)
            service.listen()
            waiting.result()
    assert "export AWS_ACCESS_KEY_ID=AKIAEXAMPLE\n" in capsys.readouterr().out


def test_commands_say_what_to_do_where_no_service_has_run(tmp_path):
    with pytest.raises(typer.Exit):
        variables(tmp_path)
    shown = subprocess.run(
        [PHALANX, "evidence", "job", "--data-dir", str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert shown.returncode == 1
    assert "No service has run" in shown.stderr


def test_a_taken_port_is_told_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = subprocess.run(
            [PHALANX, "serve", "--port", str(port), "--data-dir", str(tmp_path)],
            check=False,
            capture_output=True,
            text=True,
        )
    assert shown.returncode == 1
    assert f"port {port}" in shown.stderr


@pytest.mark.parametrize(("host", "words"), [("192.0.2.1", "--host ADDRESS"), ("127.0.0.1", "--port N")])
def test_an_address_that_cannot_be_had_is_told(tmp_path, host, words):
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = [PHALANX, "serve", "--host", host, "--port", str(other.getsockname()[1]), "--data-dir", str(tmp_path)]
        said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.returncode == 1
    assert f"Choose another: {words}" in said.stderr


def test_a_port_that_another_takes_in_the_same_moment_is_told(tmp_path):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        command = [PHALANX, "serve", "--port", str(port), "--data-dir", str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
            while not (tmp_path / "starting.lock").exists() and started.poll() is None:
                time.sleep(0.01)
            # It has bound the port, and all that it starts is still to come.
            other.listen()
            assert started.stderr.read().splitlines()[-1].startswith(f"Cannot answer on 127.0.0.1 port {port}: Address already")
    assert started.returncode == 1


@pytest.mark.parametrize(
    ("file", "content", "arguments", "words"),
    [
        ("phalanx.db", b"no database at all", (), "The database cannot be used: file is not a database"),
        ("identity.key", b"", (), "{}/identity.key holds no key"),
        ("evidence.key", b"", (), "{}/evidence.key holds no key"),
        ("s3.port", b"", (), "{}/s3.port holds no port"),
        ("other", b"", ("--root-key", "/nope/root.key"), "/nope/root.key can neither be read nor made"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, file, content, arguments, words):
    (tmp_path / file).write_bytes(content)
    command = [PHALANX, "serve", "--port", "0", "--data-dir", str(tmp_path), *arguments]
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    assert shown.returncode == 1
    assert words.format(tmp_path) in shown.stderr.splitlines()[-1]
    assert "Traceback" not in shown.stderr


def test_a_port_that_is_none_is_told(tmp_path):
    shown = CliRunner().invoke(app, ["serve", "--port", "99999", "--data-dir", str(tmp_path / "data")])
    assert shown.exit_code == 2
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"no credentials", b"[default]\n", b"\xff\xfe"])
def test_damaged_credentials_are_named(data_dir, capsys, content):
    (data_dir / "credentials").write_bytes(content)
    assert AdminKey.load(data_dir) is None
    with pytest.raises(typer.Exit):
        variables(data_dir)
    assert f"{data_dir}/credentials is missing or damaged" in capsys.readouterr().err


LOCAL = "postgresql://phalanx@/phalanx?host=/run/postgresql"


def test_jobs_are_in_a_file_unless_a_database_was_given_and_then_always_there(tmp_path):
    assert database_url(tmp_path).database == str(tmp_path / "phalanx.db")
    given = database_url(tmp_path, LOCAL)
    assert (given.get_backend_name(), given.query["host"]) == ("postgresql", "/run/postgresql")
    assert database_url(tmp_path) == given


def test_jobs_that_are_in_a_file_are_not_left_behind(tmp_path, capsys):
    (tmp_path / "phalanx.db").touch()
    with pytest.raises(typer.Exit):
        database_url(tmp_path, LOCAL)
    assert "do not move" in capsys.readouterr().err
    assert not (tmp_path / "database").exists()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://phalanx:secret@db/phalanx", "PGPASSWORD"),
        ("postgresql://phalanx@/phalanx?password=secret", "PGPASSWORD"),
        ("postgresql://phalanx@db/phalanx?sslmode=disable", "verify-full"),
        ("postgresql://phalanx@127.0.0.1/phalanx?host=db&sslmode=require", "verify-full"),
        ("postgresql://phalanx@/phalanx?service=other&sslmode=prefer", "verify-full"),
        ("mysql://phalanx@/phalanx", "PostgreSQL"),
        ("sqlite:///elsewhere.db", "PostgreSQL"),
        ("phalanx", "no URL"),
    ],
)
def test_a_database_that_cannot_be_taken_is_told_and_not_remembered(tmp_path, capsys, url, word):
    with pytest.raises(typer.Exit):
        database_url(tmp_path, url)
    assert word in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "host", "checked"),
    [
        (LOCAL, None, False),
        ("postgresql://phalanx@127.0.0.1/phalanx", None, False),
        ("postgresql://phalanx@localhost/phalanx", "db", False),
        ("postgresql://phalanx@/phalanx", None, False),
        ("postgresql://phalanx@/phalanx", "db", True),
        ("postgresql://phalanx@db/phalanx", None, True),
        ("postgres://phalanx@10.0.0.7/phalanx?sslrootcert=/etc/ca.pem", None, True),
    ],
)
def test_another_hosts_database_is_reached_over_tls_that_knows_it(tmp_path, monkeypatch, url, host, checked):
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    if host is not None:
        monkeypatch.setenv("PGHOST", host)
    assert database_url(tmp_path, url).query.get("sslmode") == ("verify-full" if checked else None)
