"""SageMaker's container contract: what the platform tells the container in /opt/ml, and how a failure is told back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/opt/ml")
MODEL = ROOT / "model"
OUTPUT = ROOT / "output" / "data"
FAILURE = ROOT / "output" / "failure"
CHECKPOINTS = ROOT / "checkpoints"

_failure_lock = threading.Lock()


class UserError(Exception):
    """The job cannot succeed as it was asked for; the text tells its user what to change."""


@dataclass(frozen=True)
class Resources:
    """input/config/resourceconfig.json: this host, all hosts (the first one leads), and the interface that joins them."""

    host: str
    hosts: tuple[str, ...]
    interface: str

    @property
    def rank(self) -> int:
        """Place of this host among all hosts."""
        return self.hosts.index(self.host)


@dataclass(frozen=True)
class Channel:
    """A channel of input/config/inputdataconfig.json. `stem` is its directory, or in Pipe mode the stem of its
    pipes' names. `replicated`: every host has all of it."""

    name: str
    content_type: str | None
    stem: Path
    piped: bool = False
    replicated: bool = True

    def files(self) -> list[Path]:
        """The channel's files, whatever folders they are in, without hidden ones and markers such as _SUCCESS.

        In Pipe mode it is the pipe of the first epoch: all data in one stream, to be read once.
        """
        if self.piped:
            return [self.stem.with_name(f"{self.name}_0")]
        return [path for path in sorted(self.stem.rglob("*")) if path.is_file() and not path.name.startswith((".", "_"))]

    def media_type(self, otherwise: str) -> tuple[str, dict[str, str]]:
        """The content type, in lower case, or `otherwise` where it has none; and its parameters (RFC 9110, 8.3.1)."""
        kind, *options = (self.content_type or otherwise).split(";")
        pairs = (option.partition("=") for option in options)
        return kind.strip().lower(), {name.strip().lower(): value.strip() for name, _, value in pairs}


def hyperparameters() -> dict[str, str]:
    """input/config/hyperparameters.json: all values are strings."""
    return {name: str(value) for name, value in _config("hyperparameters").items()}


def resources() -> Resources:
    """input/config/resourceconfig.json."""
    content = _config("resourceconfig")
    return Resources(content["current_host"], tuple(content["hosts"]), content.get("network_interface_name", "eth0"))


def channels() -> dict[str, Channel]:
    """input/config/inputdataconfig.json, by the channels' names."""
    return {
        name: Channel(
            name,
            content.get("ContentType"),
            ROOT / "input" / "data" / name,
            piped=content.get("TrainingInputMode") == "Pipe",
            replicated=content.get("S3DistributionType") != "ShardedByS3Key",
        )
        for name, content in _config("inputdataconfig").items()
    }


def needed(known: Collection[str], say: Callable[[str], None]) -> Iterator[Channel]:
    """The channels of these names that there are, in the order of their names; says which others are not used.

    Raises UserError where `train` is missing.
    """
    given = channels()
    if "train" not in given:
        raise UserError("Missing required channel: train")
    for name in sorted(given):
        if name in known:
            yield given[name]
        else:
            say(f"Channel {name} is not used")


def write_failure(reason: str) -> None:
    """Tell the platform why training failed: it shows the first 1024 characters. The first reason that is told stands."""
    with _failure_lock:
        if not FAILURE.exists():
            FAILURE.parent.mkdir(parents=True, exist_ok=True)
            FAILURE.write_text(reason)


def _config(name: str) -> dict[str, Any]:
    path = ROOT / "input" / "config" / f"{name}.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content
