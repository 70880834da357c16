"""SageMaker's container contract: what the platform tells the container in /opt/ml, and how a failure is told back."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/opt/ml")
MODEL = ROOT / "model"
FAILURE = ROOT / "output" / "failure"

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
    """A channel of input/config/inputdataconfig.json, and where its files are."""

    name: str
    content_type: str | None
    directory: Path


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
        name: Channel(name, content.get("ContentType"), ROOT / "input" / "data" / name)
        for name, content in _config("inputdataconfig").items()
    }


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
