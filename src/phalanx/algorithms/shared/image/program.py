"""The life of a training program on one host: from what it was asked for to its exit code, and the cause where it fails.

Import it before libraries that start threads, or are large.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

# Blocked before any library starts threads, and waited for in one of our own: as process 1 of a container a default
# action would be ignored, and a handler would wait for a library to come back from a long computation.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
# What libraries are made of stays, so until all are there nobody need look for garbage: a fifth of the time that they take.
gc.disable()

from cluster import Cluster, ClusterError  # noqa: E402
from contract import Resources, UserError, hyperparameters, resources, write_failure  # noqa: E402

Parameters = TypeVar("Parameters")
T = TypeVar("T")
_VERDICT_SECONDS = 2.0


def log(name: str) -> logging.Logger:
    """What writes a program's lines, stamped as SageMaker's algorithms stamp them; of libraries it writes warnings alone."""
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.WARNING,
        format="[%(asctime)s %(levelname)s %(process)d] %(message)s",
        datefmt="%m/%d/%Y %H:%M:%S",
    )
    found = logging.getLogger(name)
    found.setLevel(logging.INFO)
    return found


def run(
    parse: Callable[[Mapping[str, str]], Parameters],
    train: Callable[[Parameters, Resources, Cluster | None], None],
    words: Callable[[BaseException], str | None] = lambda _: None,
) -> NoReturn:
    """Train, on all hosts together; ends the process with 0, or with 1 and the cause in /opt/ml/output/failure.

    `words` says an exception of a library in words that help its user; None leaves it as it is.
    """
    gc.freeze()
    gc.enable()
    threading.Thread(target=_die_when_told, name="sigterm", daemon=True).start()
    cluster: Cluster | None = None
    try:
        parameters = parse(hyperparameters())
        here = resources()
        if len(here.hosts) > 1:
            cluster = Cluster(here, _end)
            cluster.join()
            print(f"Host {here.host}: joined {len(here.hosts)} hosts", flush=True)
        train(parameters, here, cluster)
        if cluster is not None:
            cluster.leave()
    except (UserError, ClusterError) as error:
        _fail(cluster, str(error))
    except BaseException as error:
        traceback.print_exc()
        if cluster is not None:
            # A peer that ended breaks a library's connections too; the cluster knows which one, and why.
            time.sleep(_VERDICT_SECONDS)
        host = f"{resources().host}: " if cluster is not None else ""
        _fail(cluster, host + (words(error) or f"{type(error).__name__}: {error}"))
    # Without the interpreter's clean-up: a library's threads may outlive what they use.
    _exit(0)


def together(
    cluster: Cluster | None, hosts: tuple[str, ...], step: Callable[[], T], told: Callable[[T], Any]
) -> tuple[T, list[Any]]:
    """Do a step on every host: its result here, and what each host tells of its own (JSON), in the order of the hosts.

    Raises UserError where a host's step does: the same one on all hosts, with the host's name where there are several.
    """
    done: list[T] = []
    summary: dict[str, Any] = {"error": None}
    try:
        done.append(step())
        summary["told"] = told(done[0])
    except UserError as error:
        summary["error"] = str(error)
    everywhere = cluster.gather(summary) if cluster else [summary]
    for host, each in zip(hosts, everywhere, strict=True):
        if each["error"]:
            raise UserError(f"{host}: {each['error']}" if len(hosts) > 1 else each["error"])
    return done[0], [each["told"] for each in everywhere]


def _die_when_told() -> None:
    signal.sigwait({signal.SIGTERM})
    print("SIGTERM: training ends", flush=True)
    _exit(128 + signal.SIGTERM)


def _fail(cluster: Cluster | None, reason: str) -> NoReturn:
    write_failure(reason)
    if cluster is not None:
        cluster.fail(reason)
    _end(reason)


def _end(reason: str) -> NoReturn:
    write_failure(reason)
    print(f"Training failed: {reason}", file=sys.stderr, flush=True)
    _exit(1)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
