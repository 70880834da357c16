"""What `phalanx serve` writes and the other commands read."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from phalanx.cli.env import variables
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
    config = yaml.safe_load(Path(found["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text())
    modules = config["SageMaker"]["PythonSDK"]["Modules"]
    assert modules == {"TelemetryOptOut": True, "Session": {"DefaultS3Bucket": "sagemaker-eu-central-1-210987654321"}}


def test_env_lines_survive_a_shell(data_dir):
    script = f'eval "$({PHALANX} env --data-dir {data_dir})" && printf %s "$AWS_SECRET_ACCESS_KEY"'
    shown = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert shown.stdout == "se/cr+et'"


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
