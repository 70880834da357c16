"""`phalanx env`: shell lines that point AWS clients at a service."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
import yaml

from phalanx.cli.settings import DEFAULT_DATA_DIR, AdminKey, DataDir, Endpoints, default_bucket, fail

WAIT_SECONDS = 120.0
"""How long `--wait` waits for a service that starts."""
_OVERRIDE = "SAGEMAKER_ADMIN_CONFIG_OVERRIDE"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_HOSTS = "/etc/xdg/sagemaker/config.yaml"
"""Where the SDKs look for an administrator's configuration (platformdirs' site_config_dir)."""


def env(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the service answers, for two minutes at most.")] = False,
) -> None:
    """Print `export` lines for boto3, the AWS CLI and the SageMaker SDKs: eval "$(phalanx env)"."""
    if wait:
        _wait(data_dir)
    for name, value in variables(data_dir).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _wait(data_dir: Path) -> None:
    """Wait until the service in `data_dir` answers. Ends the command with a word where it does not for WAIT_SECONDS.

    What an earlier start has written is not enough: a service listens once all stands behind it, where the file then says.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not ((data_dir / "endpoints.json").exists() and _listens(Endpoints.load(data_dir).endpoint)):
        if time.monotonic() > deadline:
            fail(f"The service with the data directory {data_dir} has not answered for {WAIT_SECONDS:.0f} s. See what it says.")
        time.sleep(0.1)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname or "", parts.port or 0), 1):
        return True
    return False


def variables(data_dir: Path) -> dict[str, str]:
    """The environment of a client of the service in `data_dir`, the SageMaker SDKs among them."""
    endpoints = Endpoints.load(data_dir)
    return {**access(data_dir), _OVERRIDE: str(sdk_config(data_dir, endpoints)), **_in_place_of(os.environ, endpoints)}


def _in_place_of(shell: Mapping[str, str], endpoints: Endpoints) -> dict[str, str]:
    """What takes the place of a shell's variables that would lead clients elsewhere: to AWS itself, a proxy, another's session.

    They are given another value, for a line that unsets one is none of the `export NAME=value` that programs read.
    """
    found = {name: "" for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN") if shell.get(name)}
    ours = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    found |= {name: endpoints.endpoint for name in shell if name.startswith("AWS_ENDPOINT_URL_") and name not in ours}
    if any(shell.get(name) for name in _PROXIES):
        hosts = {urlsplit(url).hostname or "" for url in (endpoints.endpoint, endpoints.s3)}
        for name in ("no_proxy", "NO_PROXY"):
            given = [entry for entry in shell.get(name, "").split(",") if entry.strip()]
            found[name] = ",".join([*given, *sorted(hosts.difference(given))])
    return found


def access(data_dir: Path) -> dict[str, str]:
    """The environment of a client that speaks AWS's API itself."""
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
        # A shell, or a file of the user's, that says otherwise would have clients ask AWS itself.
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        # The embedded S3 server answers ranged reads with the checksum of the whole object, which boto3 would take for damage.
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        # Over TLS, newer clients would send checksums in a trailer, which it does not know either.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        **({"AWS_CA_BUNDLE": endpoints.authority} if endpoints.authority else {}),
    }


def client(data_dir: Path, service: str) -> Any:
    """The administrator's client of one of a service's AWS services (botocore), whatever the shell says of AWS and proxies."""
    # `phalanx env` is in people's shells, and has no use for it.
    from botocore.config import Config

    from phalanx.data.objects import unconfigured

    environ = access(data_dir)
    return unconfigured().create_client(
        service,
        region_name=environ["AWS_REGION"],
        endpoint_url=environ["AWS_ENDPOINT_URL_S3" if service == "s3" else "AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        verify=environ.get("AWS_CA_BUNDLE"),
        config=Config(proxies={}),
    )


def sdk_config(data_dir: Path, endpoints: Endpoints) -> Path:
    """The SageMaker SDKs' administrator's configuration: without it they ask the real STS for the name of the default bucket.

    What a user has configured goes before it, and it keeps what the host's own says. Its name follows from its content, for
    each shell may have been given another administrator's.
    """
    session = {"DefaultS3Bucket": default_bucket(endpoints.region, endpoints.account)}
    ours = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True, "Session": session}}}}
    content = yaml.safe_dump(_merged(_administrators(), ours), sort_keys=False)
    path = data_dir.resolve() / f"sagemaker-sdk-{hashlib.sha256(content.encode()).hexdigest()[:12]}.yaml"
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
    return path


def _administrators() -> dict[str, Any]:
    """What the host's administrator has configured; in a shell that has this environment already, what is ours.

    Ends the command with a word where that cannot be told: it may say that traffic is to be encrypted.
    """
    given = os.environ.get(_OVERRIDE)
    if given and given.startswith("s3://"):
        fail(f"{_OVERRIDE} is {given}, which is not read here. Copy it to a file, and give that.")
    path = Path(given or _HOSTS)
    try:
        # As the SDKs do.
        path = path / "config.yaml" if path.is_dir() else path
        known = yaml.safe_load(path.read_bytes())
    except OSError as error:
        if given or not isinstance(error, FileNotFoundError):
            where = f"which {_OVERRIDE} names" if given else "the SageMaker SDKs' configuration"
            fail(f"{path}, {where}, cannot be read: {error.strerror}.")
        known = None
    except (yaml.YAMLError, ValueError) as error:
        fail(f"{path} is no YAML: {error}")
    if known is None:
        return {"SchemaVersion": "1.0"}
    if not isinstance(known, dict):
        fail(f"{path} is no configuration of the SageMaker SDKs: it holds no mapping.")
    return known


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: _merged(below.get(name), value) for name, value in above.items()}}
