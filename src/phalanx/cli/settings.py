"""Where a service keeps its state, and the facts about it that other commands need."""

from __future__ import annotations

import configparser
import json
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from phalanx.linux import files

ACCOUNT = os.environ.get("PHALANX_ACCOUNT", "123456789012")
"""The account of every resource of a service that starts; other commands ask `Endpoints`."""
REGION = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-west-2"
"""The region that clients are pointed at; any region in a signature is served."""

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="PHALANX_DATA_DIR", help="Where the service keeps everything.", show_default=True, readable=False
    ),
]
S3_TRAIL = "s3"
"""Where in the directory of the audit trail the one of S3 is, which is a chain of its own: a chain has one writer."""
DEFAULT_DATA_DIR = Path("/var/lib/phalanx/default")
IMAGES = Path(os.environ.get("PHALANX_IMAGES", "/var/lib/phalanx/images"))
"""Image store, shared by the services of a host. The built-in images in it can be built again."""

_FILES_AT_MOST = 1 << 20
"""LimitNOFILE= of the units. Programs that close all that they may have open take long where that is without a limit."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a service answers; written by `phalanx serve` when it is ready."""

    endpoint: str
    s3: str
    region: str
    authority: str | None = None
    """The file with the authority that clients have to trust (PEM), where the service made its certificate itself."""
    account: str = ACCOUNT
    """The service's account, which its environment may have set alone; one of an earlier version did not write it."""

    def save(self, data_dir: Path) -> None:
        """Write to the data directory, all or nothing."""
        files.replace(data_dir / "endpoints.json", json.dumps(asdict(self)), mode=0o644)

    @classmethod
    def load(cls, data_dir: Path) -> Endpoints:
        """Read them. Raises typer.Exit with a word to the user where no service has run."""
        path = data_dir / "endpoints.json"
        if not path.exists():
            fail(f"No service has run with the data directory {data_dir}. Start one: phalanx serve --data-dir {data_dir}")
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class AdminKey:
    """The administrator's access key."""

    id: str
    secret: str

    def save(self, data_dir: Path) -> None:
        """Write DIR/credentials, an AWS shared credentials file, readable by its owner alone."""
        content = f"[default]\naws_access_key_id = {self.id}\naws_secret_access_key = {self.secret}\n"
        files.replace(data_dir / "credentials", content)

    @classmethod
    def load(cls, data_dir: Path) -> AdminKey | None:
        """Read DIR/credentials; None where there is none, or not as `save` writes it."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(data_dir / "credentials")
            return cls(parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"])
        except (configparser.Error, KeyError, UnicodeDecodeError):
            return None


def allow_many_files() -> None:
    """Let this process, and what it starts, open as many files as the host allows, up to what the units ask for: shells, and
    who starts a program by itself, allow 1024, fewer than a service has clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_AT_MOST if hard == resource.RLIM_INFINITY else min(hard, _FILES_AT_MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def default_bucket(region: str, account: str) -> str:
    """The bucket that the SageMaker SDKs use by default."""
    return f"sagemaker-{region}-{account}"


def fail(message: str) -> NoReturn:
    """Say what is wrong on standard error and end with status 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)
