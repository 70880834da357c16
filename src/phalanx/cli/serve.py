"""`phalanx serve`: the control plane, the embedded S3 server and this host's node agent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
import uvicorn
from prometheus_client.metrics_core import Metric
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, DBAPIError
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from phalanx.cli import certificate as own_certificate
from phalanx.cli import s3 as embedded
from phalanx.cli.host import NEEDS_RAY
from phalanx.cli.listening import Tls, bind, bracketed, config, kept_port, tls
from phalanx.cli.metrics import Metrics
from phalanx.cli.s3 import EmbeddedS3
from phalanx.cli.settings import (
    ACCOUNT,
    DEFAULT_DATA_DIR,
    IMAGES,
    REGION,
    AdminKey,
    DataDir,
    Endpoints,
    default_bucket,
    fail,
    make_private,
)
from phalanx.cli.stored import database_url
from phalanx.console import site
from phalanx.data import objects
from phalanx.data.envelope import CONTEXT
from phalanx.data.model import ObjectStore, RoleCredentials
from phalanx.data.process import ProcessError
from phalanx.fleet.base import FleetError, Unreachable
from phalanx.fleet.local import LocalFleet
from phalanx.fleet.ray import credentials, runtime
from phalanx.fleet.ray.fleet import RayFleet
from phalanx.fleet.ray.ledger import File
from phalanx.identity import access_keys
from phalanx.identity.authority import Authority
from phalanx.identity.directory import CHANGED, Directory
from phalanx.identity.execution import ExecutionRoles
from phalanx.identity.seal import Broken, Seal
from phalanx.identity.signatures import SharedReplays
from phalanx.identity.trail import Trail
from phalanx.ipsec.model import Profile
from phalanx.jobs import census
from phalanx.jobs.admission import RESERVED_BYTES
from phalanx.jobs.keyring import Keyring, KeyringError
from phalanx.jobs.manager import Manager
from phalanx.jobs.runner import Acting, KeyUse, Lending
from phalanx.jobs.shelf import StoreShelf
from phalanx.jobs.signature import KeyFileError, Signer
from phalanx.jobs.tuning.tuner import Tuner
from phalanx.node import logging
from phalanx.services.cloudwatch.service import service as cloudwatch
from phalanx.services.ec2.service import ensure_default_vpc
from phalanx.services.ec2.service import service as ec2
from phalanx.services.iam.service import service as iam
from phalanx.services.kms.service import service as kms
from phalanx.services.logs.service import service as logs
from phalanx.services.phalanx.service import service as phalanx
from phalanx.services.sagemaker.create import EncryptionPolicy, Policy
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sagemaker.tuning.children import TrainingJobs
from phalanx.services.sagemaker_metrics.service import service as sagemaker_metrics
from phalanx.services.sts.service import service as sts
from phalanx.store.database import UNAVAILABLE, WRITTEN, Database, Unsuitable
from phalanx.store.leadership import Leadership, NotLeading
from phalanx.wire import heap
from phalanx.wire.app import application
from phalanx.wire.errors import Denied
from phalanx.wire.service import Guard

if TYPE_CHECKING:
    from phalanx.store.news import News

S3_WATCH_SECONDS = 1.0
"""How often the S3 server is looked at."""
S3_ANSWER_SECONDS = 30.0
"""How long the S3 server may take to answer before it counts as hanging."""
STOP_SECONDS = 5
"""How long a stop waits for requests that are being answered."""
REPLICAS = 8
"""Services that may run on one data directory, where jobs are in PostgreSQL."""
CLAIM_SECONDS = 1.0
"""How long a start takes the lead for free that the service before, which was killed, seems to have still."""
SCHEMA_SECONDS = 60.0
"""How long a replica waits until the one that leads has brought the database to this version's schema."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
"""What stops a service in order."""
DEPOSED = os.EX_TEMPFAIL
"""Exit status of a replica from which another has taken the lead: it is to be started again."""


class FleetKind(StrEnum):
    """Where instances run."""

    LOCAL = "local"
    RAY = "ray"


class IkeProfile(StrEnum):
    """What IKE daemons of encrypted jobs negotiate (`ipsec.model.Profile`)."""

    STANDARD = "standard"
    CNSA = "cnsa"


log = structlog.get_logger()


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
        IkeProfile,
        typer.Option(
            envvar="PHALANX_IKE_PROFILE",
            help="What encrypted jobs negotiate: AES-256-GCM, SHA-384, P-384 and, where every host's strongSwan has it,"
            " ML-KEM-1024 besides; or what CNSA asks for (RFC 9206), and ML-KEM-1024 always where the host has it.",
        ),
    ] = IkeProfile.STANDARD,
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
    _check_fleet(fleet, host, spread)
    if require_roles and s3_endpoint is not None:
        fail("--require-roles needs the embedded S3: an external one does not know the roles. Leave one of the two out.")
    data_dir = data_dir.resolve()
    try:
        if not make_private(data_dir):
            log.warning("others on this host may look into the data directory: chmod 0700 it", data_dir=str(data_dir))
    except OSError as error:
        fail(f"Cannot keep data in {data_dir}: {error.strerror}. Choose another: --data-dir DIR")
    number, lock = _place(data_dir, database)
    # Bound now, so that a taken port is told at once; listened on only when all stands behind it.
    try:
        listener = bind(host, port)
    except OSError as error:
        other = "--port N" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host ADDRESS, one of this host's"
        fail(f"Cannot answer on {host} port {port}: {error.strerror}. Choose another: {other}")
    # Until there is a server to tell, a stop in the middle of the start unwinds what stands so far. `stop` says it again then:
    # what is raised while Python destroys an object is lost.
    stop: list[int] = []

    def unwind(number: int, _frame: object) -> None:
        stop.append(number)
        # A second signal, from a person in a hurry, must not break off what waits for a process that is being started.
        if len(stop) == 1:
            sys.exit(0)

    for each in _ENDING:
        signal.signal(each, unwind)
    # Replicas that start at the same time make what they have in common one after the other.
    starting = os.open(data_dir / "starting.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(starting, fcntl.LOCK_EX)
    server = _Service(
        host=host,
        listener=listener,
        data_dir=data_dir,
        database=database_url(data_dir, database),
        s3_endpoint=s3_endpoint,
        registries=registry or [],
        require_encryption=require_encryption,
        require_s3_route=require_s3_route,
        require_roles=require_roles,
        root_key=root_key or data_dir / "root.key",
        tls=tls(host, data_dir, tls_certificate, tls_key),
        strict_memory=strict_memory,
        ike_profile=ike_profile,
        fleet=fleet,
        spread=spread,
        number=number,
    )
    try:
        server.run(stop, lambda: os.close(starting))
    except (FleetError, KeyFileError, KeyringError, ProcessError) as error:
        fail(str(error))
    finally:
        server.close()
        os.close(lock)


def _place(data_dir: Path, database: str | None) -> tuple[int, int]:
    """The number of this service among those that run on the data directory, from 1, and the lock that holds it."""
    for number in range(1, REPLICAS + 1):
        try:
            lock = os.open(data_dir / _numbered("lock", number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            fail(f"Cannot keep data in {data_dir}: {error.strerror}. Choose another: --data-dir DIR")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number, lock
        except BlockingIOError:
            os.close(lock)
        known = data_dir / "database"
        if not known.exists() or database not in (None, known.read_text()):
            fail(
                f"Another phalanx serve already uses {data_dir}. Give this one its own: --data-dir DIR. (Several share one"
                " where all keep their jobs in the same PostgreSQL.)"
            )
    fail(f"{REPLICAS} services run on {data_dir}, and no more may.")


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}.{number}"


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


class _Service:
    """All that runs in one `phalanx serve`, in the order in which it starts; stopped in the opposite order."""

    def __init__(
        self,
        *,
        host: str,
        listener: socket.socket,
        data_dir: Path,
        database: URL,
        s3_endpoint: str | None,
        registries: list[str],
        require_encryption: EncryptionPolicy | None,
        require_s3_route: bool,
        require_roles: bool,
        root_key: Path,
        tls: Tls | None,
        strict_memory: bool,
        ike_profile: IkeProfile,
        fleet: FleetKind,
        spread: bool,
        number: int,
    ) -> None:
        self._host = host
        self._listener = listener
        self._data_dir = data_dir
        self._external = s3_endpoint
        self._registries = registries
        self._require_encryption = require_encryption
        self._require_s3_route = require_s3_route
        self._require_roles = require_roles
        self._root_key = root_key
        self._tls = tls
        self._strict_memory = strict_memory
        self._profile: Profile = ike_profile.value
        self._kind = fleet
        self._spread = spread
        self._leaving = False
        self._closing = threading.Event()
        self._keeping = threading.Lock()
        self._shown_until: datetime | None = None
        self._undo = contextlib.ExitStack()
        self._url = database
        self._s3_metrics: Callable[[], Iterable[Metric]] = tuple
        self._database = Database(database)
        self._undo.callback(self._database.close)
        self._number = number
        self._shared = database.get_backend_name() == "postgresql"
        place = f"{data_dir} on {socket.gethostname()}, {fleet} fleet, {s3_endpoint or 'embedded S3'}"
        self._leadership = Leadership(self._database, place, _end_deposed, self._closing)
        self._undo.callback(self._leadership.close)
        self._news: News | None = None
        self._waiter: threading.Thread | None = None
        self._hands_over = False
        try:
            self._leads = self._elect()
            hears = lambda: self._news is None or self._news.fresh()  # noqa: E731
            seal = Seal(data_dir / "identity.key")
            self._directory = Directory(self._database, seal, ACCOUNT, hears, require_roles=require_roles)
            _keep_admin_key(self._directory, data_dir)
            self._key = access_keys.platforms(self._database, seal)
        except (*UNAVAILABLE, DatabaseError, Unsuitable) as error:
            fail(f"The database cannot be used: {error.orig if isinstance(error, DBAPIError) else error}")
        except Broken as error:
            fail(str(error))

    def run(self, stop: Sequence[int], started: Callable[[], None]) -> None:
        """Start everything, answer until SIGTERM, SIGINT or SIGHUP. `stop` holds the signals that came meanwhile; `started` is
        called when all is made that replicas have in common."""
        supervisor = os.environ.pop("NOTIFY_SOCKET", None)
        ensure_default_vpc(self._database, REGION)
        store, s3_server = self._object_store()
        fleet = self._fleet()
        signer = Signer(self._data_dir / "evidence.key")
        keyring = Keyring(self._database, self._root_key)
        roles = ExecutionRoles(self._directory)
        trail = Trail(self._data_dir / _numbered("audit", self._number), ACCOUNT)
        self._undo.callback(trail.close)
        guard = Authority(self._directory, trail)
        manager = Manager(
            self._database,
            fleet,
            store,
            signer,
            require_s3_route=self._require_s3_route,
            keys=keyring.data_keys,
            strict_memory=self._strict_memory,
            profile=self._profile,
            acting=_as_role(roles) if self._require_roles else None,
            lending=_to_containers(roles) if self._external is None else None,
            key_use=_by_policies(roles, guard) if self._require_roles else None,
        )
        tuner = Tuner(self._database, TrainingJobs(self._database, manager, Policy(encryption=self._require_encryption)))
        manager.watch(tuner.wake)
        if self._shared:
            # With it comes psycopg.
            from phalanx.store.news import News

            self._news = News(self._database, {CHANGED: self._directory.changed, WRITTEN: manager.replica_wrote})
            self._undo.callback(self._news.close)
            self._news.open()

        def lead() -> None:
            # S3 takes about as long to start as the agent: one beside the other.
            with ThreadPoolExecutor(1, thread_name_prefix="s3") as beside:
                storage = None
                if s3_server is not None:
                    self._undo.callback(self._stop_s3, s3_server)
                    storage = beside.submit(self._run_s3, s3_server)
                self._undo.callback(self._stop_fleet, fleet)
                fleet.open(manager.planned())
                if storage is not None:
                    storage.result()
            objects.ensure_bucket(store, default_bucket(REGION, ACCOUNT))
            manager.open()
            self._undo.callback(lambda: manager.close(leave=self._leaving))
            tuner.open()
            self._undo.callback(tuner.close)

        if self._leads:
            lead()
        port = self._listener.getsockname()[1]
        # Clients elsewhere cannot use the address that means "all of this host's".
        shown = self._host if self._host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104
        s3 = self._shown_s3(store, shown)
        services = [
            sagemaker(self._database, manager, require_encryption=self._require_encryption),
            ec2(self._database, manager),
            logs(self._database),
            sts(self._directory),
            iam(self._directory, self._admin_keys_changed),
            kms(self._database, keyring),
            cloudwatch(self._database),
            sagemaker_metrics(self._database),
            phalanx(self._database, manager),
        ]
        metrics = Metrics(
            self._data_dir,
            lambda: census.stored(self._database),
            manager.census,
            lambda: self._s3_metrics(),
            lambda: self._shown_until,
        )
        metrics.open()
        self._undo.callback(metrics.close)
        routes = [Route("/healthz", _healthy), metrics.route(), *site.routes(region=REGION, s3=s3)]
        app = application(
            services,
            self._directory.principal,
            ACCOUNT,
            guard,
            routes=routes,
            unavailable=UNAVAILABLE,
            store=self._database,
            replays=SharedReplays(self._database) if self._shared else None,
        )
        endpoint = f"{'http' if self._tls is None else 'https'}://{bracketed(shown)}:{port}"
        authority = None if self._tls is None or self._tls.authority is None else str(self._tls.authority)
        Endpoints(endpoint, s3, REGION, authority, ACCOUNT).save(self._data_dir)
        look = None if self._tls is None else partial(self._look_at_certificate, self._tls)
        server = uvicorn.Server(config(app, STOP_SECONDS, self._tls, look))

        def end(_number: int, _frame: object) -> None:
            server.should_exit = True

        def leave(_number: int, _frame: object) -> None:
            self._leaving = server.should_exit = True

        # Nothing is raised any more, which would be lost in a destructor; `stop` has what came before.
        for each in _ENDING:
            signal.signal(each, end)
        # Until now it did what SIGKILL does, which leaves instances too. Where somebody has it ignored (nohup), it stays so.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, leave)
        started()
        if stop:
            return
        if not self._leads:
            self._waiter = threading.Thread(target=self._follow, args=(lead,), name="replica", daemon=True)
            self._waiter.start()
        try:
            self._listener.listen(1024)
        except OSError as error:
            # Another was started in the same moment, and listens first.
            fail(f"Cannot answer on {self._host} port {port}: {error.strerror}. Choose another: --port N")
        heap.settle()
        if supervisor is not None:
            _notify(supervisor)
        log.info("phalanx ready", endpoint=endpoint, data_dir=str(self._data_dir), leads=self._leads)
        server.run(sockets=[self._listener])

    def _elect(self) -> bool:
        """Whether this replica leads; with the database's schema at its newest."""
        begun = time.monotonic()
        while not self._leadership.claim(CLAIM_SECONDS):
            if self._database.current():
                if not self._leadership.fits():
                    fail(
                        "Another phalanx serve uses this database, with another data directory, fleet or S3. Give this one its"
                        " own: --database URL"
                    )
                return False
            if time.monotonic() - begun > SCHEMA_SECONDS:
                fail("Another version of Phalanx leads on this database. Stop it first, or run that version here too.")
        self._database.migrate()
        self._leadership.begin()
        return True

    def _follow(self, lead: Callable[[], None]) -> None:
        """Wait until the replica that leads is gone, and take its place."""
        try:
            while self._leadership.claim(math.inf):
                try:
                    self._leadership.begin()
                    break
                except UNAVAILABLE as error:
                    log.warning("this replica cannot lead yet", reason=str(error))
            else:
                return
            self._leads = True
            lead()
        except Exception:
            # Whoever started it starts it again; meanwhile another may lead.
            log.exception("this replica cannot lead, and ends")
            os._exit(1)

    def close(self) -> None:
        """Stop everything that was started, the rest too where one fails; running jobs go back to the queue, or are left."""
        # A second signal, from a person in a hurry, must not leave half of it standing.
        for number in (*_ENDING, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._closing.set()
        if self._waiter is not None:
            # What it has begun is stopped as a whole.
            self._waiter.join()
        self._hands_over = self._leads and self._leadership.others()
        self._leaving = self._leaving or self._hands_over
        self._undo.close()

    def _fleet(self) -> LocalFleet | RayFleet:
        if self._kind == FleetKind.LOCAL:
            return LocalFleet(self._data_dir, IMAGES, self._registries, self._term)
        kept = self._data_dir / "ray"
        credentials.Authority(kept)
        port = kept_port(kept / "port", self._host)
        (kept / "head").write_text(f"{self._host}:{port}")
        strict = self._strict_memory
        return RayFleet(
            self._data_dir,
            self._host,
            port,
            IMAGES,
            StoreShelf(self._database) if self._shared else File(kept / "ledger.json"),
            spread=self._spread,
            reserve=lambda spec: spec.limits.memory if strict else RESERVED_BYTES,
            term=self._term,
        )

    def _term(self) -> int | None:
        """The term in which the fleet is given orders. Raises Unreachable while this replica does not lead."""
        try:
            return self._leadership.term()
        except NotLeading as error:
            raise Unreachable(str(error)) from error

    async def _look_at_certificate(self, tls: Tls, config: uvicorn.Config) -> None:
        """Renew the service's own certificate where it is nearly over, and show what is in the files now: clients never notice.

        Called by uvicorn where connections are made, at once and then from time to time.
        """
        try:
            if tls.authority is not None and own_certificate.nearly_over(tls.certificate):
                # What the host is called is asked of the network.
                await asyncio.to_thread(self._renew_certificate, tls.certificate.parent)
        except (OSError, ValueError) as error:
            log.warning("the certificate cannot be made anew now", reason=str(error))
        self._shown_until = own_certificate.show(config.ssl, tls.certificate, tls.key) or self._shown_until

    def _renew_certificate(self, directory: Path) -> None:
        # Replicas have the same.
        with (self._data_dir / "starting.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            own_certificate.renew(directory, self._host)

    def _admin_keys_changed(self) -> None:
        """Somebody's access keys were changed, perhaps the administrator's: `phalanx env` has to print one that works."""
        # The last of several reads last, and so writes what is there now.
        with self._keeping:
            try:
                _keep_admin_key(self._directory, self._data_dir)
            except (Broken, OSError, *UNAVAILABLE) as error:
                log.warning("the file of the administrator's key is out of date, until the next start", reason=str(error))

    def _stop_fleet(self, fleet: LocalFleet | RayFleet) -> None:
        # This host's agent serves the next leader as well.
        if not (self._hands_over and isinstance(fleet, LocalFleet)):
            fleet.close()

    def _stop_s3(self, server: EmbeddedS3) -> None:
        # Instances that are left running go on reading and writing.
        if not self._leaving:
            server.stop()

    def _object_store(self) -> tuple[ObjectStore, EmbeddedS3 | None]:
        """S3 as the platform uses it, and the server behind it where that is the service's own: whoever leads runs it."""
        if self._external is not None:
            access_key = os.environ.get("PHALANX_S3_ACCESS_KEY")
            secret_key = os.environ.get("PHALANX_S3_SECRET_KEY")
            if not access_key or not secret_key:
                fail("An external S3 needs PHALANX_S3_ACCESS_KEY and PHALANX_S3_SECRET_KEY in the environment.")
            return ObjectStore(self._external, REGION, access_key, secret_key, proxied=True), None
        # In the clear it answers on loopback alone.
        host = self._host if self._tls is None else "127.0.0.1"
        port, outside = kept_port(self._data_dir / embedded.PORT, host), None
        if self._tls is not None:
            self._s3_outside = kept_port(self._data_dir / embedded.TLS_PORT, self._host)
            outside = (self._host, self._s3_outside)
        certificate, key = (None, None) if self._tls is None else (self._tls.certificate, self._tls.key)
        url = self._url.render_as_string(hide_password=False)
        told = embedded.settings(self._data_dir, url, ACCOUNT, (host, port), outside, certificate, key)
        inside = ObjectStore(f"http://{bracketed(host)}:{port}", REGION, *self._key)
        server = EmbeddedS3(self._data_dir / "s3", self._data_dir / "s3.log", told, inside)
        self._s3_metrics = server.metrics
        if self._kind == FleetKind.RAY and self._tls is not None:
            # As the hosts reach it; what they have to trust comes with their invitations.
            if self._tls.authority is not None:
                os.environ["AWS_CA_BUNDLE"] = str(self._tls.authority)
            return replace(inside, endpoint=f"https://{self._host}:{self._s3_outside}"), server
        return inside, server

    def _shown_s3(self, store: ObjectStore, shown: str) -> str:
        """The URL at which clients reach S3."""
        if self._external is None and self._tls is not None:
            return f"https://{bracketed(shown)}:{self._s3_outside}"
        return store.endpoint or ""

    def _run_s3(self, server: EmbeddedS3) -> None:
        server.start()
        threading.Thread(target=self._watch_s3, args=(server,), name="s3", daemon=True).start()

    def _watch_s3(self, server: EmbeddedS3) -> None:
        while not self._closing.wait(S3_WATCH_SECONDS):
            if not server.answers(S3_ANSWER_SECONDS) and not self._closing.is_set():
                log.warning("the S3 server ended or hangs, and is started again")
                try:
                    server.start()
                except Exception:
                    log.exception("the S3 server cannot be started")


def _as_role(roles: ExecutionRoles) -> Acting:
    """How jobs reach S3 as their roles."""

    def acting(store: ObjectStore, role: str, seconds: int) -> ObjectStore | None:
        key = roles.assume(role, seconds)
        return None if key is None else replace(store, access_key=key.id, secret_key=key.secret, token=key.token)

    return acting


def _by_policies(roles: ExecutionRoles, guard: Guard) -> KeyUse:
    """What roles may do with keys: what they could themselves."""

    def may(role: str, operation: str, key: str) -> bool:
        caller = roles.caller(role, key.split(":")[3])
        if caller is None:
            return False
        try:
            guard.authorize(caller, "kms", operation, {"KeyId": key, "EncryptionContext": dict(CONTEXT)})
        except Denied:
            return False
        return True

    return may


def _to_containers(roles: ExecutionRoles) -> Lending:
    """What containers are lent of their roles."""

    def lending(role: str) -> RoleCredentials | None:
        key = roles.lend(role)
        return None if key is None else RoleCredentials(role, key.id, key.secret, key.token, key.expires)

    return lending


def _notify(supervisor: str) -> None:
    """Tell systemd that the service is ready (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, contextlib.suppress(OSError):
        sender.sendto(b"READY=1", supervisor.replace("@", "\0", 1) if supervisor.startswith("@") else supervisor)


def _end_deposed() -> None:
    """End at once, with nothing put in order: all there is to put in order is another replica's now."""
    log.error("another replica has taken the lead from this one, which ends, to be started again")
    os._exit(DEPOSED)


def _healthy(_request: object) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _keep_admin_key(directory: Directory, data_dir: Path) -> None:
    """Have DIR/credentials hold an active access key of the administrator's, who is given one where there is none.

    Raises Broken, OSError, and what the database does while it is away.
    """
    key = AdminKey(*access_keys.administrators(directory.database, directory.seal))
    if AdminKey.load(data_dir) != key:
        key.save(data_dir)
