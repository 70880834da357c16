"""`phalanx serve`: what may be asked of a service, and its start."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from phalanx.cli import directory, listening
from phalanx.cli.host import NEEDS_RAY
from phalanx.cli.options import FleetKind, Options
from phalanx.cli.replica import place
from phalanx.cli.service import ENDING, Service
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, allow_many_files, fail
from phalanx.cli.stored import database_url
from phalanx.data.process import ProcessError
from phalanx.fleet.base import FleetError
from phalanx.fleet.ray import runtime
from phalanx.ipsec.model import Profile
from phalanx.jobs.keyring import KeyringError
from phalanx.jobs.signature import KeyFileError
from phalanx.node import logging
from phalanx.services.sagemaker.create import EncryptionPolicy


def serve(
    host: Annotated[str, typer.Option(help="Address to answer on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to answer on.")] = 8770,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="PHALANX_DATABASE",
            help="Keep jobs in PostgreSQL: postgresql://USER@HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass. Given"
            " at the first start of a data directory, and remembered there. By default they are kept in DIR/phalanx.db.",
        ),
    ] = None,
    s3_endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="PHALANX_S3_ENDPOINT",
            help="Use this S3 (MinIO, Ceph, AWS …) with the keys in PHALANX_S3_ACCESS_KEY and PHALANX_S3_SECRET_KEY"
            " instead of the embedded server.",
        ),
    ] = None,
    registry: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PHALANX_REGISTRIES",
            help="A registry (HOST or HOST:PORT) that training images may be fetched from; may be repeated. None by default:"
            " images come from `phalanx image`.",
        ),
    ] = None,
    require_encryption: Annotated[
        EncryptionPolicy | None,
        typer.Option(
            envvar="PHALANX_REQUIRE_ENCRYPTION",
            help="Refuse jobs of several instances that do not ask for encryption of their traffic, or upgrade them to it.",
        ),
    ] = None,
    require_s3_route: Annotated[
        bool,
        typer.Option(
            "--require-s3-route",
            envvar="PHALANX_REQUIRE_S3_ROUTE",
            help="Fail jobs in a VPC from which no route leads to S3, or whose security groups do not let them there, as"
            " SageMaker does. By default they train: the platform moves their data itself.",
        ),
    ] = False,
    require_roles: Annotated[
        bool,
        typer.Option(
            "--require-roles",
            envvar="PHALANX_REQUIRE_ROLES",
            help="Take jobs only with roles that were created (CreateRole), and read and write a job's data in S3 with what its"
            " role's policies allow, as SageMaker does. By default the platform moves it with a key of its own.",
        ),
    ] = False,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="PHALANX_TLS_CERTIFICATE",
            help="A certificate (PEM, with its chain) to answer over TLS with. Beyond loopback everything is over TLS: without"
            " this one the service makes its own, which clients trust by what `phalanx env` prints.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="PHALANX_TLS_KEY", help="The key (PEM) that belongs to the certificate.")
    ] = None,
    root_key: Annotated[
        Path | None,
        typer.Option(
            envvar="PHALANX_ROOT_KEY",
            help="The file that seals the keys of KMS, made where it is missing; DIR/root.key by default. Elsewhere it keeps a"
            " copy of the data directory from opening them.",
        ),
    ] = None,
    strict_memory: Annotated[
        bool,
        typer.Option(
            "--strict-memory",
            envvar="PHALANX_STRICT_MEMORY",
            help="Let a job wait until the host has all the memory that its instance types have. By default an instance counts"
            " for 1.5 GiB, whatever its type may use at most.",
        ),
    ] = False,
    ike_profile: Annotated[
        Profile,
        typer.Option(
            envvar="PHALANX_IKE_PROFILE",
            help="What encrypted jobs negotiate: AES-256-GCM, SHA-384, P-384 and, where every host's strongSwan has it,"
            " ML-KEM-1024 besides; or what CNSA asks for (RFC 9206), and ML-KEM-1024 always where the host has it.",
        ),
    ] = "standard",
    fleet: Annotated[
        FleetKind,
        typer.Option(
            envvar="PHALANX_FLEET",
            help="Where instances run: on this host, or on hosts that join over the network (`phalanx host`), carried by Ray.",
        ),
    ] = FleetKind.LOCAL,
    spread: Annotated[
        bool,
        typer.Option("--spread", envvar="PHALANX_SPREAD", help="Run each instance of a job on a host of its own."),
    ] = False,
) -> None:
    """Run Phalanx: the AWS endpoint, the job queue, S3, and instances on this host or on others.

    SIGTERM stops it and takes the instances of running jobs down, which begin again at the next start. SIGHUP ends it and
    leaves instances running, guarded, until the next start takes them up: for an upgrade.
    """
    logging.configure()
    allow_many_files()
    _check_fleet(fleet, host, spread)
    if require_roles and s3_endpoint is not None:
        fail("--require-roles needs the embedded S3: an external one does not know the roles. Leave one of the two out.")
    data_dir = data_dir.resolve()
    directory.prepare(data_dir)
    number, lock = place(data_dir, database)
    listener = _bound(host, port)
    stop = _unwound_by_signals()
    # Replicas that start at the same time make what they have in common one after the other.
    starting = os.open(data_dir / "starting.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(starting, fcntl.LOCK_EX)
    options = Options(
        host=host,
        data_dir=data_dir,
        database=database_url(data_dir, database),
        s3_endpoint=s3_endpoint,
        registries=registry or [],
        require_encryption=require_encryption,
        require_s3_route=require_s3_route,
        require_roles=require_roles,
        root_key=root_key or data_dir / "root.key",
        tls=listening.tls(host, data_dir, tls_certificate, tls_key),
        strict_memory=strict_memory,
        ike_profile=ike_profile,
        fleet=fleet,
        spread=spread,
        number=number,
    )
    try:
        _run(Service(options, listener), data_dir, stop, starting)
    finally:
        os.close(lock)


def _bound(host: str, port: int) -> socket.socket:
    """Bound at once, so that a taken port is told; listened on only when all stands behind it."""
    try:
        return listening.bind(host, port)
    except OSError as error:
        other = "--port N" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host ADDRESS, one of this host's"
        fail(f"Cannot answer on {host} port {port}: {error.strerror}. Choose another: {other}")


def _unwound_by_signals() -> list[int]:
    """Until there is a server to tell, a stop in the middle of the start unwinds what stands so far. The signals that came are
    in the list then: what is raised while Python destroys an object is lost."""
    stop: list[int] = []

    def unwind(number: int, _frame: object) -> None:
        stop.append(number)
        # A second signal, from a person in a hurry, must not break off what waits for a process that is being started.
        if len(stop) == 1:
            sys.exit(0)

    for each in ENDING:
        signal.signal(each, unwind)
    return stop


def _run(server: Service, data_dir: Path, stop: list[int], starting: int) -> None:
    """Run the service to its end; what keeps it from starting ends the command with a word. `starting` is a lock that is held
    until all is made that replicas have in common."""
    try:
        server.run(stop, lambda: os.close(starting))
    except (FleetError, KeyFileError, KeyringError, ProcessError) as error:
        fail(str(error))
    except PermissionError:
        raise
    except OSError as error:
        if server.started:
            raise
        about = f" ({error.filename})" if error.filename else ""
        fail(f"Cannot start with the data directory {data_dir}: {error.strerror or error}{about}.")
    finally:
        server.close(failed=not (server.started or stop))


def _check_fleet(fleet: FleetKind, host: str, spread: bool) -> None:
    if fleet == FleetKind.LOCAL:
        if spread:
            fail("--spread needs several hosts: --fleet ray")
        return
    if not runtime.installed():
        fail(NEEDS_RAY)
    try:
        address = ipaddress.IPv4Address(host)
    except ipaddress.AddressValueError:
        fail("--fleet ray needs --host with this machine's IPv4 address on the network between hosts.")
    if address.is_loopback or address.is_unspecified:
        fail(f"Other hosts cannot reach {host}: give --host this machine's IPv4 address on the network between hosts.")
