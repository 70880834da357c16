"""What the probe says of this host, and what follows from what a probe says."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from phalanx.ipsec import charon, probe
from phalanx.ipsec.engine import devices
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.probe import Capabilities, Capability, Unprotected


def pretend(capabilities: Capabilities, **verdicts: bool) -> Capabilities:
    return Capabilities(tuple(dataclasses.replace(each, ok=verdicts.get(each.purpose, each.ok)) for each in capabilities.all))


@pytest.fixture(scope="module")
def here() -> Capabilities:
    return probe.probe()


def test_this_host_can_run_encrypted_jobs(here: Capabilities) -> None:
    assert here.missing("guard", "ike") == ()
    assert probe.choose(here) in ("kernel", "engine")
    assert all(each.detail and each.remedy for each in here.all)


def test_the_packages_that_are_named_have_every_plugin(here: Capabilities) -> None:
    """By Debian's word, where strongSwan comes from it."""
    (found,) = (each for each in here.all if each.name == "charon")
    brought = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Depends}", "strongswan-charon"], check=True, capture_output=True, text=True
    ).stdout
    for name in charon.PLUGINS:
        owner = subprocess.run(
            ["dpkg-query", "--search", str(charon.plugin(name))], check=True, capture_output=True, text=True
        ).stdout.partition(":")[0]
        assert owner in f"{found.remedy} {brought}", name


def test_the_probe_leaves_nothing() -> None:
    def state() -> tuple[list[str], str]:
        return sorted(path.name for path in Path("/sys/class/net").iterdir()), Path("/proc/net/xfrm_stat").read_text()

    before = state()
    probe.probe()
    assert state() == before


def test_the_kernel_is_taken_where_it_can(here: Capabilities) -> None:
    assert probe.choose(pretend(here, kernel=True, engine=False)) == "kernel"
    assert probe.choose(pretend(here, kernel=True, engine=True)) == "kernel"
    assert probe.explain(pretend(here, kernel=True)).startswith("kernel: ")


def test_else_the_engine(here: Capabilities) -> None:
    without = pretend(here, kernel=False, engine=True)
    assert probe.choose(without) == "engine"
    assert probe.explain(without).startswith("engine: the kernel cannot carry ESP itself")


@pytest.mark.parametrize("missing", [{"guard": False}, {"ike": False}, {"kernel": False, "engine": False}])
def test_else_nothing_at_all(here: Capabilities, missing: dict[str, bool]) -> None:
    without = pretend(here, **missing)
    with pytest.raises(Unprotected) as caught:
        probe.choose(without)
    for each in without.missing(*missing):
        assert each.name in str(caught.value)
        assert each.remedy in str(caught.value)
    assert probe.explain(without).startswith("none: ")


def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DAEMON", Path("/nowhere/charon"))
    (found,) = probe.probe().missing("ike")
    assert found.name == "charon"
    assert "/nowhere/charon" in found.detail
    monkeypatch.undo()
    monkeypatch.setattr(probe, "PLUGINS", (*charon.PLUGINS, "teleport"))
    (found,) = probe.probe().missing("ike")
    assert "teleport" in found.detail


@pytest.mark.parametrize("what", ["ct count", "maxseg size set rt mtu"])
def test_a_kernel_that_cannot_do_what_routers_do_is_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = probe._run

    def old(*command: str, text: str = "") -> str:
        if what in text:
            raise OSError("nft: Could not process rule: No such file or directory")
        return run(*command, text=text)

    monkeypatch.setattr(probe, "_run", old)
    (found,) = probe.probe().missing("guard")
    assert found.name == "nftables inet"
    assert "CONFIG_NFT_CONNLIMIT" in found.remedy


def test_a_kernel_that_does_not_count_what_is_blocked_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> dict[str, int]:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/thread-self/net/xfrm_stat")

    for statistics, words in ((missing, "xfrm_stat"), (lambda _name: {"XfrmOutPolBlock": 0}, "not counted")):
        monkeypatch.setattr("phalanx.ipsec.netns.xfrm_statistics", statistics)
        (found,) = probe.probe().missing("guard")
        assert (found.name, words in found.detail) == ("XFRM statistics", True)
        assert "CONFIG_XFRM_STATISTICS" in found.remedy


def test_a_guard_that_lets_packets_pass_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phalanx.ipsec.guard.up", lambda *_: None)
    assert Capability("XFRM policies", "guard", False, "a block policy lets packets pass", "") in [
        dataclasses.replace(each, remedy="") for each in probe.probe().all
    ]


@pytest.mark.parametrize("refused", [devices._TUNSETVNETHDRSZ, devices._TUNSETPERSIST, devices._TUNSETOFFLOAD])
def test_a_tun_that_the_engine_cannot_open_is_found_out(refused: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device can be made in sandboxes that have nothing of what the engine asks of it then."""
    ioctl, asked = fcntl.ioctl, list[int]()

    def sandbox(descriptor: int, request: int, argument: int | bytes) -> int | bytes:
        if request == refused:
            asked.append(descriptor)
            raise OSError(errno.EINVAL, "Invalid argument")
        return ioctl(descriptor, request, argument)

    monkeypatch.setattr("fcntl.ioctl", sandbox)
    (found,) = probe.probe().missing("engine")
    assert (found.name, "Invalid argument" in found.detail) == ("TUN with offloads", True)
    # It would keep the namespace that was thrown away.
    assert os.path.realpath(f"/proc/self/fd/{asked[0]}") != "/dev/net/tun"


def test_a_shim_that_charon_may_not_open_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As under AppArmor: the daemon runs all the same, without it."""
    shim = tmp_path / "_xfrm_shim.so"
    monkeypatch.setattr("phalanx.ipsec.engine.core.built", lambda _name: shim)
    for content in (None, b"not a library"):
        if content is not None:
            shim.write_bytes(content)
        (found,) = probe.probe().missing("engine")
        assert found.name == "XFRM shim"
        assert f"object '{shim}' from LD_PRELOAD cannot be preloaded" in found.detail
        assert "AppArmor" in found.remedy


def test_a_library_that_computes_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise EngineError("AES-GCM by any library fails its self-test")

    monkeypatch.setattr("phalanx.ipsec.engine.core.choose_aead", refuse)
    (found,) = probe.probe().missing("engine")
    assert (found.name, found.detail) == ("AES-256-GCM", "AES-GCM by any library fails its self-test")
