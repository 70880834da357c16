import os
import shutil
import subprocess
import sys

import pytest

from phalanx.algorithms import catalog

PROGRAMS = {algorithm.name: algorithm.contexts[-1] for algorithm in catalog.ALGORITHMS}
OPTIONS = [
    "--strict",
    "--ignore-missing-imports",
    "--allow-subclassing-any",
    "--no-warn-unused-ignores",
    "--allow-untyped-calls",
]


@pytest.mark.parametrize("name", [name for name, context in PROGRAMS.items() if (context / "train.py").exists()])
def test_types(name, tmp_path):
    """mypy, without the libraries: they are in the images alone."""
    program = shutil.copytree(PROGRAMS[name], tmp_path / "program")
    command = [sys.executable, "-m", "mypy", *OPTIONS, "--config-file=", "--no-site-packages", "--explicit-package-bases", "."]
    checked = subprocess.run(
        command, cwd=program, env={**os.environ, "MYPYPATH": "."}, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
