"""The system calls that a training container may make: `seccomp.json`, loaded."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def profile() -> dict[str, Any]:
    """The profile in the form of the OCI runtime specification (config-linux.md, "Seccomp")."""
    rules: dict[str, Any] = json.loads((resources.files(__package__) / "seccomp.json").read_text())
    for rule in rules["syscalls"]:
        rule.pop("comment")
    return rules
