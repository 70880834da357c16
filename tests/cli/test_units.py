"""The units for systemd, as systemd reads them."""

import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent.parent / "deploy" / "systemd"
# What systemd does by a mount namespace of the service's own: what the agent mounts there, keys among it, would be gone at the
# next start, and the instances with it.
BY_MOUNTS = (
    "Protect",
    "PrivateTmp",
    "PrivateDevices",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "Inaccessible",
    "Bind",
    "Temporary",
    "Root",
)


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))
def test_systemd_takes_the_unit(unit, tmp_path):
    text = (UNITS / unit).read_text()
    # The program is not installed where tests run.
    (tmp_path / unit).write_text(text.replace("/opt/phalanx/bin/phalanx", "/bin/true"))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit], check=False, capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stderr) == (0, "")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    # Instances are not the service's: what takes them down is the service itself, on SIGTERM.
    assert settings["KillMode"] == "process"
    assert settings["ExecReload"].endswith("-HUP $MAINPID")
    # However long the network, a port or the disk is not to be had: it is tried again, and the machine left time for others.
    assert (settings["Restart"], settings["StartLimitIntervalSec"], settings["RestartSec"]) == ("always", "0", "2s")
    assert settings["Restart"] == "always"
    # Keys stay in memory.
    assert (settings["LimitCORE"], settings["MemorySwapMax"]) == ("0", "0")
    assert not [name for name in settings if name.startswith(BY_MOUNTS)]
