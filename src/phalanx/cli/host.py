"""`phalanx host`: hosts of a fleet that spans several."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from phalanx.cli import directory, terminal
from phalanx.cli.settings import DEFAULT_DATA_DIR, IMAGES, DataDir, Endpoints, allow_many_files, fail
from phalanx.cli.stored import stored
from phalanx.fleet.base import FleetError
from phalanx.fleet.ray import runtime
from phalanx.fleet.ray.credentials import Authority, Invitation
from phalanx.fleet.ray.ledger import File, Ledger
from phalanx.fleet.ray.membership import Membership
from phalanx.jobs.shelf import StoreShelf
from phalanx.linux.signals import Signals
from phalanx.node import logging
from phalanx.node.names import Names

HOST_DATA_DIR = Path("/var/lib/phalanx/host")
HostDataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where this host keeps what instances work on.", show_default=True)
]
NEEDS_RAY = "Several hosts need Ray: pip install 'phalanx-train[ray]'"

_ZONE = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+[abc]")

host = typer.Typer(help="Hosts of a fleet (`phalanx serve --fleet ray`).", no_args_is_help=True, add_completion=False)


@host.command()
def invite(
    address: Annotated[str, typer.Argument(help="The host's IPv4 address on the network between hosts.")],
    file: Annotated[Path, typer.Argument(help="Where to write the invitation: a secret, to be carried to the host.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write what one host needs to join the fleet: on the control plane's machine."""
    try:
        IPv4Address(address)
    except AddressValueError:
        fail(f"{address} is not an IPv4 address: give the one that other hosts reach this host at.")
    head = _head(data_dir)
    authority = Endpoints.load(data_dir).authority
    trusted = None if authority is None else Path(authority).read_text()
    try:
        Authority(data_dir / "ray").invite(head.read_text(), address, trusted).save(file)
    except OSError as error:
        fail(f"Cannot write {file}: {error.strerror}")
    except FleetError as error:
        fail(str(error))


@host.command()
def join(
    file: Annotated[Path, typer.Argument(help="The invitation that `phalanx host invite` wrote for this host.")],
    data_dir: HostDataDir = HOST_DATA_DIR,
    registry: Annotated[
        list[str] | None,
        typer.Option(envvar="PHALANX_REGISTRIES", help="A registry that training images may be fetched from; may be repeated."),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            envvar="PHALANX_ZONE",
            help="The availability zone that this host is in, such as us-west-2a: it takes instances whose subnet is there, and"
            " those without one. By default it stands for all zones.",
        ),
    ] = None,
    ports: Annotated[
        int,
        typer.Option(
            envvar="PHALANX_PORTS",
            min=1024,
            max=65536 - runtime.PORTS,
            help=f"The first of the {runtime.PORTS} TCP ports at which the control plane reaches this host.",
        ),
    ] = runtime.HOST_PORTS,
) -> None:
    """Run instances on this host, until SIGTERM: then it takes no more, and leaves when the last has ended (at once when told
    twice). SIGHUP ends it and leaves instances running, guarded, until it joins again: for an upgrade."""
    logging.configure()
    allow_many_files()
    if not runtime.installed():
        fail(NEEDS_RAY)
    if zone is not None and not _ZONE.fullmatch(zone):
        fail(f"{zone} is no availability zone: give a region and a letter from a to c, such as us-west-2a.")
    data_dir = data_dir.resolve()
    try:
        invitation = Invitation.load(file)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"{file} is no invitation, as `phalanx host invite` writes it on the control plane's machine: {error}")
    directory.prepare(data_dir)
    lock = directory.lock(data_dir, "lock")
    if lock is None:
        fail(f"Another phalanx process already uses {data_dir}. Give this one its own: --data-dir DIR")
    if invitation.s3_authority is not None:
        trusted = data_dir / "s3-authority.pem"
        trusted.write_text(invitation.s3_authority)
        # The agent's, and all that it starts.
        os.environ["AWS_CA_BUNDLE"] = str(trusted)
    # What somebody has ignored (nohup) stays so.
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    signals = Signals(*(number for number in ends if signal.getsignal(number) != signal.SIG_IGN))
    membership = Membership(invitation, data_dir, IMAGES, registry or [], zone, ports)
    try:
        membership.open()
        if signals.wait() != signal.SIGHUP:
            enough = threading.Event()
            threading.Thread(target=_told_again, args=(signals, enough), daemon=True).start()
            membership.drain(enough)
    except FleetError as error:
        fail(str(error))
    finally:
        membership.close()
        os.close(lock)


@host.command()
def drain(data_dir: HostDataDir = HOST_DATA_DIR) -> None:
    """Let this host take no more instances; those that it has run on to their end, and it stays in its fleet."""
    _draining(data_dir).touch()


@host.command()
def resume(data_dir: HostDataDir = HOST_DATA_DIR) -> None:
    """Let this host take instances again after `drain`."""
    _draining(data_dir).unlink(missing_ok=True)


@host.command("list")
def listing(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the hosts of the fleet: on the control plane's machine."""
    _head(data_dir)
    with contextlib.ExitStack() as stack:
        # Where there may be replicas, the store has it.
        shared = (data_dir / "database").exists()
        shelf = StoreShelf(stack.enter_context(stored(data_dir))) if shared else File(data_dir / "ray" / "ledger.json")
        ledger = Ledger(shelf)
        ledger.load()
    table = Table("Address", "Zone", "CPUs", "Memory", "GPUs", "Instances", "State", box=None)
    for address, facts in sorted(ledger.hosts.items()):
        has = facts.capacity
        table.add_row(
            address,
            ", ".join(has.zones or ("any",)),
            str(has.cpus),
            f"{has.memory / 2**30:.0f} GiB",
            str(has.gpus),
            str(len(ledger.on(address))),
            "draining" if has.draining else "open",
        )
    terminal.console().print(table)


def _head(data_dir: Path) -> Path:
    """The file that says where a fleet's Ray answers; ends the command with a word where there is no fleet."""
    head = data_dir / "ray" / "head"
    if not head.exists():
        fail(f"No fleet has run with the data directory {data_dir}. Start one: phalanx serve --fleet ray --data-dir {data_dir}")
    return head


def _draining(data_dir: Path) -> Path:
    names = Names(data_dir.resolve())
    if not names.run_dir.exists():
        fail(f"No host runs with the data directory {data_dir}. Give the one of `phalanx host join`: --data-dir DIR")
    return names.draining


def _told_again(signals: Signals, enough: threading.Event) -> None:
    signals.wait()
    enough.set()
