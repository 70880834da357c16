"""What `phalanx serve` writes and the other commands read."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from phalanx.cli.env import variables
from phalanx.cli.settings import AdminKey, Endpoints, default_bucket

PHALANX = str(Path(sys.executable).parent / "phalanx")


@pytest.fixture
def data_dir(tmp_path):
    Endpoints("http://127.0.0.1:1", "http://127.0.0.1:2", "eu-central-1").save(tmp_path)
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
    assert modules == {"TelemetryOptOut": True, "Session": {"DefaultS3Bucket": default_bucket("eu-central-1")}}


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
