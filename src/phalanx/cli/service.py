"""All that runs in one `phalanx serve`: the control plane, the embedded S3 server and this host's node agent."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
from sqlalchemy.exc import DatabaseError, DBAPIError
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from phalanx.cli import certificate as own_certificate
from phalanx.cli import listening
from phalanx.cli.metrics import Metrics
from phalanx.cli.options import FleetKind, Options
from phalanx.cli.replica import Replica, numbered
from phalanx.cli.settings import ACCOUNT, IMAGES, REGION, AdminKey, Endpoints, default_bucket, fail
from phalanx.cli.storage import Storage
from phalanx.console import site
from phalanx.data import objects
from phalanx.data.envelope import CONTEXT
from phalanx.data.model import ObjectStore, RoleCredentials
from phalanx.fleet.local import LocalFleet
from phalanx.fleet.ray import credentials
from phalanx.fleet.ray.fleet import RayFleet
from phalanx.fleet.ray.ledger import File
from phalanx.identity import access_keys
from phalanx.identity.authority import Authority
from phalanx.identity.directory import CHANGED, Directory
from phalanx.identity.execution import ExecutionRoles
from phalanx.identity.seal import Broken, Seal
from phalanx.identity.signatures import SharedReplays
from phalanx.identity.trail import Trail
from phalanx.jobs import census
from phalanx.jobs.admission import RESERVED_BYTES
from phalanx.jobs.keyring import Keyring
from phalanx.jobs.manager import Manager
from phalanx.jobs.shelf import StoreShelf
from phalanx.jobs.signature import Signer
from phalanx.jobs.tuning.tuner import Tuner
from phalanx.jobs.world import Acting, KeyUse, Lending
from phalanx.services.cloudwatch.service import service as cloudwatch
from phalanx.services.ec2.service import ensure_default_vpc
from phalanx.services.ec2.service import service as ec2
from phalanx.services.iam.service import service as iam
from phalanx.services.kms.service import service as kms
from phalanx.services.logs.service import service as logs
from phalanx.services.phalanx.service import service as phalanx
from phalanx.services.s3.request import possible
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sagemaker.tuning.children import TrainingJobs
from phalanx.services.sagemaker_metrics.service import service as sagemaker_metrics
from phalanx.services.sts.service import service as sts
from phalanx.store.database import UNAVAILABLE, WRITTEN, Database, Unsuitable
from phalanx.wire import heap
from phalanx.wire.app import application
from phalanx.wire.errors import AwsError, Denied
from phalanx.wire.service import Guard

if TYPE_CHECKING:
    from phalanx.store.news import News

STOP_SECONDS = 5
"""How long a stop waits for requests that are being answered."""
ENDING = (signal.SIGTERM, signal.SIGINT)
"""What stops a service in order."""
log = structlog.get_logger()


class Service:
    """Everything, in the order in which it starts; stopped in the opposite order."""

    def __init__(self, options: Options, listener: socket.socket) -> None:
        """`listener` is bound to where the service is to answer."""
        self._options = options
        self._data_dir = options.data_dir
        self._listener = listener
        # Clients elsewhere cannot use the address that means "all of this host's".
        self._known_as = options.host if options.host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104
        self.started = False
        """Whether it answers, or has."""
        self._found = False
        """Whether jobs had instances when it took the lead."""
        self._leaving = False
        self._hands_over = False
        self._closing = threading.Event()
        self._keeping = threading.Lock()
        self._shown_until: datetime | None = None
        self._news: News | None = None
        self._undo = contextlib.ExitStack()
        self._database = Database(options.database)
        self._undo.callback(self._database.close)
        where = f"{options.data_dir} on {socket.gethostname()}, {options.fleet} fleet, {options.s3_endpoint or 'embedded S3'}"
        self._replica = Replica(self._database, where, self._closing)
        self._undo.callback(self._replica.close)
        try:
            self._replica.elect()
            hears = lambda: self._news is None or self._news.fresh()  # noqa: E731
            seal = Seal(self._data_dir / "identity.key")
            self._directory = Directory(self._database, seal, ACCOUNT, hears, require_roles=options.require_roles)
            _keep_admin_key(self._directory, self._data_dir)
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
        storage = Storage(self._options, self._key, self._closing)
        fleet = self._fleet()
        signer = Signer(self._data_dir / "evidence.key")
        keyring = Keyring(self._database, self._options.root_key)
        trail = Trail(self._data_dir / numbered("audit", self._options.number), ACCOUNT)
        self._undo.callback(trail.close)
        guard = Authority(self._directory, trail)
        manager = self._manager(fleet, storage.store, signer, keyring, guard)
        tuner = Tuner(self._database, TrainingJobs(self._database, manager, self._options.require_encryption))
        manager.watch(tuner.wake)
        if self._options.shared:
            # With it comes psycopg.
            from phalanx.store.news import News

            self._news = News(self._database, {CHANGED: self._directory.changed, WRITTEN: manager.replica_wrote})
            self._undo.callback(self._news.close)
            self._news.open()
        lead = partial(self._lead, storage, fleet, manager, tuner)
        if self._replica.leads:
            lead()
        tls, s3 = self._options.tls, storage.url(self._known_as)
        app = self._application(manager, keyring, guard, storage, s3)
        port = self._listener.getsockname()[1]
        endpoint = f"{'http' if tls is None else 'https'}://{listening.bracketed(self._known_as)}:{port}"
        authority = None if tls is None or tls.authority is None else str(tls.authority)
        Endpoints(endpoint, s3, REGION, authority, ACCOUNT).save(self._data_dir)
        look = None if tls is None else partial(self._look_at_certificate, tls)
        server = uvicorn.Server(listening.config(app, STOP_SECONDS, tls, look))
        self._await_signals(server)
        started()
        if stop:
            return
        if not self._replica.leads:
            self._replica.follow(lead)
        try:
            self._listener.listen(1024)
        except OSError as error:
            # Another was started in the same moment, and listens first.
            fail(f"Cannot answer on {self._options.host} port {port}: {error.strerror}. Choose another: --port N")
        self.started = True
        heap.settle()
        if supervisor is not None:
            _notify(supervisor)
        log.info("phalanx ready", endpoint=endpoint, data_dir=str(self._data_dir), leads=self._replica.leads)
        server.run(sockets=[self._listener])

    def close(self, *, failed: bool) -> None:
        """Stop everything that was started, the rest too where one fails; running jobs go back to the queue, or are left.

        A start that `failed`, be it for want of room on the disk, ends none of the jobs that it found running.
        """
        # A second signal, from a person in a hurry, must not leave half of it standing.
        for number in (*ENDING, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._closing.set()
        self._hands_over = self._replica.hands_over()
        self._leaving = self._leaving or self._hands_over or (failed and self._found)
        self._undo.close()

    def _fleet(self) -> LocalFleet | RayFleet:
        options, term = self._options, self._replica.term
        if options.fleet == FleetKind.LOCAL:
            return LocalFleet(self._data_dir, IMAGES, options.registries, term)
        kept = self._data_dir / "ray"
        credentials.Authority(kept)
        port = listening.kept_port(kept / "port", options.host)
        (kept / "head").write_text(f"{options.host}:{port}")
        return RayFleet(
            self._data_dir,
            options.host,
            port,
            IMAGES,
            StoreShelf(self._database) if options.shared else File(kept / "ledger.json"),
            spread=options.spread,
            reserve=lambda spec: spec.limits.memory if options.strict_memory else RESERVED_BYTES,
            term=term,
        )

    def _manager(
        self, fleet: LocalFleet | RayFleet, store: ObjectStore, signer: Signer, keyring: Keyring, guard: Authority
    ) -> Manager:
        options, roles = self._options, ExecutionRoles(self._directory)
        return Manager(
            self._database,
            fleet,
            store,
            signer,
            require_s3_route=options.require_s3_route,
            keys=keyring.data_keys,
            strict_memory=options.strict_memory,
            profile=options.ike_profile,
            acting=_as_role(roles) if options.require_roles else None,
            lending=_to_containers(roles) if options.s3_endpoint is None else None,
            key_use=_by_policies(roles, guard) if options.require_roles else None,
            possible=_embedded_has if options.s3_endpoint is None else lambda _: True,
        )

    def _lead(self, storage: Storage, fleet: LocalFleet | RayFleet, manager: Manager, tuner: Tuner) -> None:
        """Start what the replica that leads alone runs."""
        # S3 takes about as long to start as the agent: one beside the other.
        with ThreadPoolExecutor(1, thread_name_prefix="s3") as beside:
            self._undo.callback(lambda: storage.stop(leave=self._leaving))
            stored = beside.submit(storage.start)
            self._undo.callback(self._stop_fleet, fleet)
            planned = manager.planned()
            self._found = bool(planned)
            fleet.open(planned)
            stored.result()
        objects.ensure_bucket(storage.store, default_bucket(REGION, ACCOUNT))
        manager.open()
        self._undo.callback(lambda: manager.close(leave=self._leaving))
        tuner.open()
        self._undo.callback(tuner.close)

    def _application(self, manager: Manager, keyring: Keyring, guard: Authority, storage: Storage, s3: str) -> ASGIApp:
        """What answers: AWS's services, the metrics, and the console, which reaches S3 at the URL `s3`."""
        services = [
            sagemaker(self._database, manager, require_encryption=self._options.require_encryption),
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
            storage.metrics,
            lambda: self._shown_until,
        )
        metrics.open()
        self._undo.callback(metrics.close)
        return application(
            services,
            self._directory.principal,
            ACCOUNT,
            routes=[Route("/healthz", _healthy), metrics.route(), *site.routes(region=REGION, s3=s3)],
            guard=guard,
            unavailable=UNAVAILABLE,
            store=self._database,
            replays=SharedReplays(self._database) if self._options.shared else None,
        )

    def _await_signals(self, server: uvicorn.Server) -> None:
        """From now on signals end the server, and are raised no more: in a destructor that would be lost."""

        def end(_number: int, _frame: object) -> None:
            server.should_exit = True

        def leave(_number: int, _frame: object) -> None:
            self._leaving = server.should_exit = True

        for each in ENDING:
            signal.signal(each, end)
        # Until now it did what SIGKILL does, which leaves instances too. Where somebody has it ignored (nohup), it stays so.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, leave)

    async def _look_at_certificate(self, tls: listening.Tls, config: uvicorn.Config) -> None:
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
            own_certificate.renew(directory, self._options.host)

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


def _embedded_has(key: str) -> bool:
    """Whether the embedded S3 can have an object of this key."""
    try:
        return possible(key)
    except AwsError:
        return False


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


def _healthy(_request: object) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _keep_admin_key(directory: Directory, data_dir: Path) -> None:
    """Have DIR/credentials hold an active access key of the administrator's, who is given one where there is none.

    Raises Broken, OSError, and what the database does while it is away.
    """
    key = AdminKey(*access_keys.administrators(directory.database, directory.seal))
    if AdminKey.load(data_dir) != key:
        key.save(data_dir)
