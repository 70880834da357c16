"""`phalanx env`: shell lines that point AWS clients at a service."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import typer
import yaml

from phalanx.cli.settings import DEFAULT_DATA_DIR, AdminKey, DataDir, Endpoints, default_bucket, fail

_OVERRIDE = "SAGEMAKER_ADMIN_CONFIG_OVERRIDE"
_HOSTS = "/etc/xdg/sagemaker/config.yaml"
"""Where the SDKs look for an administrator's configuration (platformdirs' site_config_dir)."""


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
        _OVERRIDE: str(sdk_config(data_dir, endpoints)),
        # Over TLS, newer clients would send checksums in a trailer, which it does not know either.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        **({"AWS_CA_BUNDLE": endpoints.authority} if endpoints.authority else {}),
    }


def sdk_config(data_dir: Path, endpoints: Endpoints) -> Path:
    """The SageMaker SDKs' administrator's configuration: without it they ask the real STS for the name of the default bucket.

    What a user has configured goes before it, and it keeps what the host's own says.
    """
    path = data_dir.resolve() / "sagemaker-sdk.yaml"
    session = {"DefaultS3Bucket": default_bucket(endpoints.region, endpoints.account)}
    ours = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True, "Session": session}}}}
    hosts = Path(os.environ.get(_OVERRIDE, _HOSTS))
    # In a shell that has this environment already it is ours.
    known = (yaml.safe_load(hosts.read_text()) if hosts.is_file() else None) or {"SchemaVersion": "1.0"}
    content = yaml.safe_dump(_merged(known, ours), sort_keys=False)
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    return path


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: _merged(below.get(name), value) for name, value in above.items()}}
