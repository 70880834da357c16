"""`phalanx image list`, in a pipe and in a narrow terminal."""

import json
import os
import pty
import sys
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from phalanx.cli.main import app
from phalanx.runtime.images import Images, StoredImage

LONG = "123456789012.dkr.ecr.us-west-2.amazonaws.com/department/team/project-with-a-long-name:2026-11-30"
FOUND = [
    StoredImage("localhost/phalanx/xgboost:latest", "a" * 64, 1_234_567_890, 1_764_000_000),
    StoredImage(LONG, "b" * 64, 1, 1),
]


@pytest.fixture
def stored(monkeypatch):
    monkeypatch.setattr(Images, "listing", lambda _: FOUND)


def test_a_pipe_has_each_image_on_a_line_of_its_own(stored):
    lines = CliRunner().invoke(app, ["image", "list"]).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[each.name, each.id[:12]] for each in FOUND]


def test_a_narrow_terminal_shows_whole_names(stored, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        app(["image", "list"], standalone_mode=False)
    rows = os.read(ours, 1 << 16).decode().splitlines()[1:]
    os.close(ours)
    assert max(map(len, rows)) <= 70
    assert "".join(row.split()[0] for row in rows) == "".join(each.name for each in FOUND)


def test_json_has_all_there_is_to_know(stored):
    assert json.loads(CliRunner().invoke(app, ["image", "list", "--json"]).stdout) == [asdict(each) for each in FOUND]
