"""The command line: every command there, and none imported but the one that is asked for."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phalanx import __version__
from phalanx.cli.main import COMMANDS, app, imported


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for(command):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f" {command} [OPTIONS]" in shown.output


def test_the_help_says_what_every_command_says_of_itself_and_imports_none():
    real = {name: imported(name).help for name in COMMANDS}
    code = (
        "import sys\nfrom phalanx.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print({f'phalanx.cli.{each}' for each in sys.argv[1:]} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *COMMANDS]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "set()"
    words = " ".join(shown.replace("│", " ").split())
    for name, purpose in real.items():
        assert f" {name} {' '.join(purpose.partition(chr(10) * 2)[0].split())} " in words


def test_it_says_its_version():
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"phalanx {__version__}\n")


def test_a_command_that_is_none_is_told():
    shown = CliRunner().invoke(app, ["sevre"])
    assert shown.exit_code == 2
    assert "No such command 'sevre'" in shown.output


def test_what_may_not_be_opened_is_told_in_a_sentence(monkeypatch):
    def denied(_path):
        raise PermissionError(errno.EACCES, "Permission denied", "/var/lib/phalanx/default/audit")

    monkeypatch.setattr(Path, "is_dir", denied)
    shown = CliRunner().invoke(app, ["trail"])
    assert (shown.exit_code, shown.stderr.split(". ")[0]) == (1, "/var/lib/phalanx/default/audit: Permission denied")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["host", "list"], "No fleet has run with the data directory"),
        (["host", "join", "nowhere"], "nowhere cannot be read: No such file or directory"),
        (["host", "join", "audit/some.json"], "audit/some.json is no invitation"),
        (["trail", "--name", "audit.2"], "There is no trail audit.2 in"),
        (["evidence", "mine", "--key", "ab"], "--key belongs to --verify FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_not_there_is_not_taken_for_something_else(tmp_path, monkeypatch, arguments, words):
    """An empty list of hosts, a service that never ran, a file that is no JSON, a key that was not looked at."""
    # It would have all later tests of this process write to the runner's output.
    monkeypatch.setattr("phalanx.node.logging.configure", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "some.json").write_text('{"version": 3}')
    shown = CliRunner().invoke(app, [*arguments, "--data-dir", "."])
    assert shown.exit_code == 1
    assert shown.stderr.startswith(words)


@pytest.mark.parametrize("away", ["nan", "inf", "1e17", "-1"])
def test_instances_are_not_away_for_ever(tmp_path, away):
    shown = CliRunner().invoke(app, ["interrupt", "mine", "--away", away, "--data-dir", str(tmp_path)])
    assert (shown.exit_code, "Invalid value for '--away'" in shown.output) == (2, True)


def test_packets_are_not_waited_for_by_who_may_not_see_them(monkeypatch, tmp_path):
    capture = ["capture", "vpc-1", "--data-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, [*capture, "--pcap", str(tmp_path / "no" / "file")])
    assert (shown.exit_code, "no/file cannot be written" in shown.stderr) == (1, True)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    shown = CliRunner().invoke(app, capture)
    assert (shown.exit_code, "root" in shown.stderr) == (1, True)


def test_a_check_of_a_trail_says_of_which_records_nothing_can_be_told(tmp_path):
    record = {"sequence": 7, "previous": "ab" * 32}
    for directory in (tmp_path / "audit", tmp_path / "audit" / "s3"):
        directory.mkdir()
        (directory / f"{7:012}.jsonl").write_text(json.dumps(record) + "\n")

    def shown(*arguments):
        return CliRunner().invoke(app, ["trail", "--data-dir", str(tmp_path), *arguments])

    assert [line.split()[:4] for line in shown().stdout.splitlines()[2:]] == [
        ["first", "7", "in", str(tmp_path / "audit") + ":"],
        ["first", "7", "in", str(tmp_path / "audit" / "s3") + ":"],
    ]
    assert shown("--records", "7", "--last", "ab" * 32).exit_code == 0
    for records, last in (("7", "cd" * 32), ("6", "ab" * 32), ("9", "ab" * 32)):
        assert shown("--records", records, "--last", last).exit_code == 1


def test_env_imports_nothing_that_it_does_not_need():
    code = (
        "import sys\nfrom phalanx.cli.main import app\n"
        "try: app(['env', '--data-dir', '/nowhere'])\nexcept SystemExit: pass\n"
        "print({'sqlalchemy', 'boto3', 'botocore', 'optuna', 'pyroute2'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == "set()\n"


def test_what_debian_has_in_sbin_is_found_under_cron(monkeypatch, tmp_path):
    """Else the service would say ready, and every encrypted job fail for want of nft."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    CliRunner().invoke(app, ["explain", "--data-dir", str(tmp_path), "no-such-job"])
    assert shutil.which("nft") is not None
    assert os.environ["PATH"].startswith("/usr/bin:/bin:")
