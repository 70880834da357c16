"""What the Debian package does to a machine, and what the page on operations says of it."""

import contextlib
import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from phalanx.cli.directory import foreign

REPOSITORY = Path(__file__).parent.parent.parent
PAGE = (REPOSITORY / "docs" / "operations.md").read_text()


@pytest.fixture
def machine(tmp_path):
    """A systemd that notes what it is told, and says that the control plane runs."""
    told = tmp_path / "told"
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$*" >>{told}\ncase "$*" in *is-active\\ phalanx-host) exit 3;; esac\n')
    program.chmod(0o755)

    def moved(script: str) -> str:
        text = (REPOSITORY / "deploy" / script).read_text()
        # Nothing of this machine is to be touched.
        for path in ("/run/systemd/system", "/etc/phalanx", "/opt/phalanx", "/etc/apparmor.d"):
            if path in text:
                (tmp_path / path[1:]).mkdir(parents=True, exist_ok=True)
                text = text.replace(path, str(tmp_path / path[1:]))
        return text

    for name in ("aa-enabled", "apparmor_parser"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} ${{*##*/}}" >>{told}\n')
        (tmp_path / name).chmod(0o755)
    share = tmp_path / "opt" / "phalanx" / "share"
    share.mkdir(parents=True)
    (share / "apparmor").write_text(moved("apparmor"))
    (share / "apparmor").chmod(0o755)

    def run(script: str, *arguments: str) -> list[str]:
        text = moved(f"debian/{script}")
        told.write_text("")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", text, script, *arguments], check=True, env=environment)
        return told.read_text().splitlines()

    return run


def test_an_upgrade_stops_nothing_and_reloads_what_runs(machine):
    assert machine("prerm", "upgrade", "0.2.0") == []
    assert machine("postrm", "upgrade", "0.2.0") == ["daemon-reload"]
    told = machine("postinst", "configure", "0.1.0")
    assert told[0] == "daemon-reload"
    assert [line for line in told if "is-active" not in line] == ["daemon-reload", "reload phalanx"]


@pytest.mark.parametrize("action", [("upgrade", "0.2.0"), ("remove",)])
def test_no_bytecode_stays_of_modules_that_go(machine, tmp_path, action):
    module = tmp_path / "opt" / "phalanx" / "lib" / "module"
    (module / "__pycache__").mkdir(parents=True)
    (module / "__pycache__" / "__init__.cpython-311.pyc").touch()
    (module / "__init__.py").touch()
    machine("prerm", *action)
    # What dpkg finds are its own files, and it removes their directories with them.
    assert [path.name for path in module.iterdir()] == ["__init__.py"]


def test_settings_are_roots_to_read(machine, tmp_path):
    (tmp_path / "etc" / "phalanx").mkdir(parents=True)
    (tmp_path / "etc" / "phalanx").chmod(0o755)
    machine("postinst", "configure", "0.1.0")
    assert (tmp_path / "etc" / "phalanx").stat().st_mode & 0o777 == 0o700


def test_a_removal_stops_all_and_keeps_the_data(machine):
    assert machine("prerm", "remove") == ["disable --now phalanx.service phalanx-host.service"]
    assert machine("postrm", "remove") == ["daemon-reload"]


def test_logs_are_rotated_while_they_are_written_and_nothing_else_is(tmp_path):
    text = (REPOSITORY / "deploy" / "debian" / "logrotate").read_text()
    assert "deploy/debian/logrotate" in (REPOSITORY / "tools" / "deb").read_text()
    rules, kept = tmp_path / "rules", tmp_path / "lib"
    rules.write_text(text.replace("/var/lib/phalanx", str(kept)))
    rules.chmod(0o644)
    logs = [kept / name for name in ("default/agent.log", "default/s3.log", "default/ray/ray.log", "default/ray/driver.log")]
    logs += [kept / "host" / "agent.log", kept / "host" / "ray.log"]
    others = [kept / "default" / "audit" / "000000000000.jsonl", kept / "default" / "phalanx.db"]
    for path in (*logs, *others):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text("before\n")
    with contextlib.ExitStack() as stack:
        # As whoever starts these processes opens them.
        writers = [stack.enter_context(log.open("ab", buffering=0)) for log in logs]
        subprocess.run(["/usr/sbin/logrotate", "--force", "--state", str(tmp_path / "state"), str(rules)], check=True)
        for writer in writers:
            writer.write(b"after\n")
    for log in logs:
        old = log.with_name(f"{log.name}.1.gz")
        assert (log.read_text(), gzip.decompress(old.read_bytes())) == ("after\n", b"before\n")
        assert old.stat().st_mode & 0o777 == 0o600
    assert {path.read_text() for path in others} == {"before\n"}
    assert len([path for path in kept.rglob("*") if path.is_file()]) == 2 * len(logs) + len(others)
    # They are the service's own: the data directory may stay its owner's alone.
    assert foreign(kept / "default") == foreign(kept / "host") == []


def test_charon_may_have_the_engines_shim_where_apparmor_confines_it(machine, tmp_path):
    reloaded = ["aa-enabled --quiet", "apparmor_parser usr.lib.ipsec.charon"]
    profiles = tmp_path / "etc" / "apparmor.d"
    file = profiles / "local" / "usr.lib.ipsec.charon"
    machine("postinst", "configure", "")
    assert not file.exists()
    (profiles / "usr.lib.ipsec.charon").touch()
    assert machine("postinst", "configure", "")[:2] == reloaded
    packages = tmp_path / "opt/phalanx/lib/python3*/site-packages"
    lines = file.read_text().splitlines()
    assert [line.partition(" #")[0] for line in lines] == [
        f"{packages}/phalanx/ipsec/engine/_xfrm_shim*.so mr,",
        "/run/xfrm.sock rw,",
    ]

    # A line of the operator's, without its end; and a checkout on the same host.
    with file.open("a") as more:
        more.write("/srv/keys/** r,")
    script = tmp_path / "opt/phalanx/share/apparmor"
    subprocess.run([script, "allow", "/home/me/phalanx/src"], check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    theirs = file.read_text().splitlines()[2:]
    assert (theirs[0], len(theirs)) == ("/srv/keys/** r,", 3)
    assert machine("postinst", "configure", "0.1.0")[0] == "daemon-reload"
    assert file.read_text().splitlines() == lines + theirs

    assert machine("prerm", "upgrade", "0.2.0") == []
    assert machine("prerm", "remove")[1:] == reloaded
    assert file.read_text().splitlines() == theirs


def test_the_page_says_what_to_do_about_every_alert():
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == set(re.findall(r"`(Phalanx\w+)`", PAGE))
