"""The launcher's steps by themselves: what a whole container cannot show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HANGS = """
import os, time
from phalanx.runtime import launch
launch.STEP_SECONDS = 1
os.sendfile = lambda *_: time.sleep(20)
launch._adopt_opt_ml(["layer"], 0)
"""


def test_a_copy_of_an_images_opt_ml_that_hangs_ends_with_its_step(tmp_path: Path) -> None:
    """From its first byte on: an agent waits for the launcher's lock."""
    for directory in ("opt_ml", "layer/opt/ml", "rootfs/opt/ml/code"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "rootfs/opt/ml/code/train.py").write_text("pass")
    launcher = subprocess.run([sys.executable, "-c", HANGS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "RuntimeError: /opt/ml of the image cannot be copied" in launcher.stderr
