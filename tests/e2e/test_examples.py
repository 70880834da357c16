"""The example of `make demo`, as somebody runs it who has boto3 in a Python of their own."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_an_example_finds_the_command_wherever_its_python_is(phalanx, tmp_path):
    """As the package installs it: `phalanx` is on PATH, and not beside the Python that runs the program."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    libraries = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": path}
    environ = {**os.environ, **phalanx.env, **libraries, "PHALANX_DATA_DIR": str(phalanx.data_dir)}
    ran = subprocess.run([python, EXAMPLES / "encrypted_training.py"], env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "✗" not in ran.stdout
    assert ran.stdout.count("✓") == 8
