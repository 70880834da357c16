"""The command line: every command there, and none imported but the one that is asked for."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from phalanx.cli.main import MODULES, Commands, app


@pytest.mark.parametrize("command", MODULES)
def test_every_command_says_what_it_is_for(command):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f" {command} [OPTIONS]" in shown.output


def test_the_help_says_what_every_command_says_of_itself_and_imports_none():
    commands = Commands(name="phalanx")
    real = {name: commands.get_command(None, name).help for name in MODULES}
    code = (
        "import sys\nfrom phalanx.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print({f'phalanx.cli.{each}' for each in sys.argv[1:]} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *MODULES.values()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "set()"
    words = " ".join(shown.replace("│", " ").split())
    for name, purpose in real.items():
        assert f" {name} {' '.join(purpose.partition(chr(10) * 2)[0].split())} " in words


def test_a_command_that_is_none_is_told():
    shown = CliRunner().invoke(app, ["sevre"])
    assert shown.exit_code == 2
    assert "No such command 'sevre'" in shown.output


def test_env_imports_nothing_that_it_does_not_need():
    code = (
        "import sys\nfrom phalanx.cli.main import app\n"
        "try: app(['env', '--data-dir', '/nowhere'])\nexcept SystemExit: pass\n"
        "print({'sqlalchemy', 'boto3', 'botocore', 'optuna', 'pyroute2'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == "set()\n"
