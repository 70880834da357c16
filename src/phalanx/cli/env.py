"""`phalanx env`: shell lines that point AWS clients at a service."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, AdminKey, DataDir, Endpoints, default_bucket, fail


def env(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print `export` lines for boto3, the AWS CLI and the SageMaker SDKs: eval "$(phalanx env)"."""
    for name, value in variables(data_dir).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def variables(data_dir: Path) -> dict[str, str]:
    """The environment of a client of the service in `data_dir`."""
    endpoints, key = Endpoints.load(data_dir), AdminKey.load(data_dir)
    if key is None:
        fail(f"{data_dir}/credentials is missing or damaged. Start the service again: it writes it anew.")
    return {
        "AWS_ENDPOINT_URL": endpoints.endpoint,
        "AWS_ENDPOINT_URL_S3": endpoints.s3,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_REGION": endpoints.region,
        "AWS_DEFAULT_REGION": endpoints.region,
        # The embedded S3 server answers ranged reads with the checksum of the whole object, which boto3 would take for damage.
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(sdk_config(data_dir, endpoints)),
        # Over TLS, newer clients would send checksums in a trailer, which it does not know either.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        **({"AWS_CA_BUNDLE": endpoints.authority} if endpoints.authority else {}),
    }


def sdk_config(data_dir: Path, endpoints: Endpoints) -> Path:
    """The SageMaker SDKs' configuration file: without it they ask the real STS for the name of the default bucket."""
    path = data_dir.resolve() / "sagemaker-sdk.yaml"
    content = (
        "SchemaVersion: '1.0'\n"
        "SageMaker:\n"
        "  PythonSDK:\n"
        "    Modules:\n"
        "      TelemetryOptOut: true\n"
        "      Session:\n"
        f"        DefaultS3Bucket: {default_bucket(endpoints.region, endpoints.account)}\n"
    )
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    return path
