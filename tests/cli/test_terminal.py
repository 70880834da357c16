"""What commands print for people, where no terminal says how wide it is."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phalanx.cli.main import app
from phalanx.fleet.ray.ledger import Facts, File, Ledger
from phalanx.node.messages import Capacity


def test_a_table_in_a_pipe_is_not_cut_at_80_columns(tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "head").write_text("192.0.2.1:6379")
    ledger = Ledger(File(tmp_path / "ray" / "ledger.json"))
    zones = ("ap-southeast-2a", "ap-southeast-2b", "ap-southeast-2c")
    ledger.note("192.0.2.250", Facts(Capacity(cpus=192, memory=1024 << 30, gpus=8, zones=zones), 9001))
    shown = CliRunner().invoke(app, ["host", "list", "--data-dir", str(tmp_path)])
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 2)
    assert ", ".join(zones) in shown.stdout


@pytest.mark.parametrize("name", ["audit", "capture", "doctor", "evidence", "host", "image"])
def test_every_command_prints_to_the_same(name):
    assert "Console(" not in inspect.getsource(import_module(f"phalanx.cli.{name}"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "euc_jp"])
def test_where_the_locale_is_none_of_utf_8_characters_are_told_by_their_names(encoding):
    command = [Path(sys.executable).with_name("phalanx"), "doctor"]
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = subprocess.run(command, check=False, capture_output=True, env=environ)
    assert b"Traceback" not in shown.stderr
    text = shown.stdout.decode(encoding)
    assert "\\N{CHECK MARK}" in text
    assert "data plane:" in text
