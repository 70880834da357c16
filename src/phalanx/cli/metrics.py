"""`GET /metrics`: what Prometheus scrapes, for whoever has the token in DIR/metrics.token. See docs/operations.md."""

from __future__ import annotations

import hmac
import os
import platform
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from phalanx import __version__
from phalanx.jobs.census import Measured, Stored
from phalanx.linux import files
from phalanx.store.database import UNAVAILABLE

LOOK_SECONDS = 3.0
"""How long a scrape waits until the fleet has been asked; then it shows what was known before. Prometheus itself waits ten."""
PHASES = ("new", "prepared", "connected", "loaded", "running", "exited")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{43,}=*")
"""What may follow `Bearer` (RFC 6750 section 2.1), no shorter than those that are made here."""

log = structlog.get_logger()


def token(path: Path) -> str:
    """The token in that file, made where there is none, or none that is whole: an empty one would let everybody in."""
    if path.exists():
        found = path.read_text(errors="replace").strip()
        if _TOKEN.fullmatch(found):
            return found
        log.warning("the file held no token that is whole, and has another now: give Prometheus a copy", file=str(path))
    made = secrets.token_urlsafe(32)
    files.replace(path, made)
    return made


class Metrics:
    """The numbers of one service. `stored` asks its store, `measured` its fleet, which may take long; `others` are counted by
    its other processes; `certificate` says when that ends which it shows."""

    def __init__(
        self,
        data_dir: Path,
        stored: Callable[[], Stored],
        measured: Callable[[], Measured],
        others: Callable[[], Iterable[Metric]] = tuple,
        certificate: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._data_dir = data_dir
        self._token = token(data_dir / "metrics.token").encode()
        self._stored = stored
        self._measured = measured
        self._others = others
        self._certificate = certificate
        self._condition = threading.Condition()
        self._asked = 0
        self._looked = 0
        self._known = Measured()
        self._fresh = False
        self._closing = False
        self._collector = _Collector(self)
        self._looker = threading.Thread(target=self._look, name="metrics", daemon=True)

    def open(self) -> None:
        """Begin: the counters of all rooms are those of the process, the numbers of the moment come with this."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        REGISTRY.register(self._collector)
        self._looker.start()

    def close(self) -> None:
        """End."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        REGISTRY.unregister(self._collector)

    def route(self) -> Route:
        """The route that a Prometheus scrapes."""
        return Route("/metrics", self._answer)

    def families(self) -> Iterator[Metric]:
        """The numbers of this moment."""
        build = GaugeMetricFamily("phalanx_build_info", "The version that runs.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield from self._of_the_store()
        yield from self._of_the_fleet()
        yield from self._others()
        ends = self._certificate()
        yield GaugeMetricFamily(
            "phalanx_certificate_expires_seconds",
            "Seconds until the certificate ends that the service shows; of one without TLS nothing.",
            value=None if ends is None else (ends - datetime.now(UTC)).total_seconds(),
        )
        disk = os.statvfs(self._data_dir)
        yield _gauge("phalanx_data_dir_free_bytes", "Bytes free where the data directory lies.", disk.f_bavail * disk.f_frsize)
        yield _gauge("phalanx_data_dir_size_bytes", "Bytes of the disk that it lies on.", disk.f_blocks * disk.f_frsize)

    def _of_the_store(self) -> Iterator[Metric]:
        try:
            found = self._stored()
        except UNAVAILABLE:
            yield _gauge("phalanx_store_up", "Whether the database answers.", 0)
            return
        yield _gauge("phalanx_store_up", "Whether the database answers.", 1)
        yield _gauges("phalanx_training_jobs", "Training jobs, by status.", "status", found.training)
        yield _gauges(
            "phalanx_training_jobs_unfinished", "Unfinished ones, by secondary status.", "secondary_status", found.unfinished
        )
        yield _gauges("phalanx_tuning_jobs", "Hyperparameter tuning jobs, by status.", "status", found.tuning)
        yield _gauge("phalanx_queue_jobs", "Training jobs that wait for room.", found.waiting)
        yield _gauge("phalanx_queue_oldest_seconds", "How long ago the oldest of them was created.", found.waited)
        yield _gauge("phalanx_warm_pools", "Warm pools that the next job may take over.", found.warm_pools)

    def _of_the_fleet(self) -> Iterator[Metric]:
        found, fresh = self._known, self._fresh
        yield _gauge("phalanx_fleet_up", "Whether the fleet's hosts, or this host's agent, answer.", found.capacity is not None)
        yield _gauge(
            "phalanx_census_fresh",
            f"Whether instances could be asked within {LOOK_SECONDS:.0f} s; 0: as they were before.",
            fresh,
        )
        if found.capacity is not None:
            yield _gauge("phalanx_fleet_cpus", "CPUs of all hosts.", found.capacity.cpus)
            yield _gauge("phalanx_fleet_memory_bytes", "Memory of all hosts.", found.capacity.memory)
            yield _gauge("phalanx_fleet_gpus", "GPUs of all hosts.", found.capacity.gpus)
        yield _gauge("phalanx_reserved_memory_bytes", "Memory that running jobs have reserved.", found.reserved_memory)
        yield _gauge("phalanx_reserved_gpus", "GPUs that running jobs have reserved.", found.reserved_gpus)
        phases = dict.fromkeys(PHASES, 0) | dict(found.instances)
        yield _gauges("phalanx_instances", "Instances, by how far they have come.", "phase", phases)
        states = {"established": found.established, "missing": found.missing}
        yield _gauges(
            "phalanx_ipsec_pairs", "Pairs of instances of encrypted jobs, each way, by their CHILD_SA.", "state", states
        )
        yield _gauge(
            "phalanx_unmeasured_jobs", "Running jobs of which a guard or a data plane could not be measured.", found.unmeasured
        )

    def _ask(self) -> None:
        """Have the fleet asked, and wait for its answer for a while."""
        with self._condition:
            self._asked += 1
            mine = self._asked
            self._condition.notify_all()
            self._fresh = self._condition.wait_for(lambda: self._looked >= mine or self._closing, LOOK_SECONDS)

    def _look(self) -> None:
        # By one thread, whoever asks and however long it takes: a fleet that hangs makes neither scrapes hang nor threads many.
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._asked > self._looked or self._closing)
                if self._closing:
                    return
                asked = self._asked
            try:
                known = self._measured()
            except Exception as error:
                log.warning("instances cannot be measured now", reason=str(error))
                known = Measured()
            with self._condition:
                self._known, self._looked = known, asked
                self._condition.notify_all()

    def _answer(self, request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            return Response(
                "The token is in DIR/metrics.token.\n",
                401,
                {"www-authenticate": 'Bearer realm="metrics"', "content-type": "text/plain"},
            )
        # Before any number is taken: what instances measure goes to the counters of other rooms.
        self._ask()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"content-type": content_type, "cache-control": "no-store"})


class _Collector(Collector):
    """What the registry asks. It says nothing when it is registered: nothing is there to be asked yet."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()

    def describe(self) -> Iterator[Metric]:
        return iter(())


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=float(value))


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
