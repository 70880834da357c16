"""Phalanx's IPsec on a kernel that has ESP: what the check_*.py beside this file find in a virtual machine, one by one."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

import pytest

from ipsec.kernel import machine

FILES = sorted(machine.HERE.glob("check_*.py"))


def checks() -> list[str]:
    return [
        f"{path.stem}.{node.name}"
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.fixture(scope="module")
def findings() -> dict[str, list[str]]:
    """For each check that ran, what went wrong: an entry for each of its cases that failed."""
    # Every module counts: an emulated processor takes a second for what a real one does in a twentieth.
    pytest_ = ("env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", ".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider")
    options = ("-o", "python_files=check_*.py", "-W", "ignore", f"--junitxml={machine.REPORT}")
    report = ElementTree.fromstring(machine.run((*pytest_, *options, *map(str, FILES))))
    found: dict[str, list[str]] = defaultdict(list)
    for case in report.iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.{case.get('name').partition('[')[0]}"
        found[name] += [f"{case.get('name')}: {fault.text}" for fault in case if fault.tag in ("failure", "error", "skipped")]
    return found


@pytest.mark.parametrize("check", checks())
def test_in_the_virtual_machine(findings: dict[str, list[str]], check: str) -> None:
    assert check in findings, "it did not run"
    assert not findings[check], "\n".join(findings[check])
