"""The command line: every command there, and none imported but the one that is asked for."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from phalanx.cli.main import MODULES, app


@pytest.mark.parametrize("command", MODULES)
def test_every_command_says_what_it_is_for(command):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f" {command} [OPTIONS]" in shown.output


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
