"""What instances of encrypted jobs measure, added up into counters that only grow: for Prometheus (docs/operations.md).

Counters belong to the process, as Prometheus wants them: they begin at zero with it. They are made of what stands in a job's
evidence, so both tell the same. No label holds what a user has chosen, and none has more values than are listed here or in
native/engine/drops.h and linux/snmp.h.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from prometheus_client import Counter

from phalanx.jobs import evidence
from phalanx.store.base import Json
from phalanx.store.jobs import TrainingJob

ENDED = Counter(
    "phalanx_training_jobs_ended",
    "Training jobs that ended, by status and by the class of the FailureReason.",
    ["status", "reason"],
)
REASONS = ("", "AlgorithmError", "ClientError", "InternalServerError", "CapacityError")
DOUBTED = Counter(
    "phalanx_evidence_doubted",
    "Encrypted jobs of several instances that ended, and whose evidence does not show that all their traffic was encrypted.",
)
PACKETS = Counter("phalanx_esp_packets", "Packets that instances sent and received through ESP.", ["direction"])
BYTES = Counter("phalanx_esp_bytes", "Bytes within these packets.", ["direction"])
DROPS = Counter("phalanx_esp_dropped_packets", "Packets that data planes dropped, by cause.", ["cause"])
CAUSES = (
    *("out_malformed", "out_no_policy", "out_blocked", "out_no_sa", "out_lifetime", "out_sequence", "out_cipher"),
    *("out_too_big", "out_send"),
    *("in_malformed", "in_unknown_spi", "in_address", "in_replay", "in_icv", "in_lifetime", "in_dummy", "in_protocol"),
    *("in_no_policy", "in_tun"),
    *("XfrmInStateProtoError", "XfrmInStateSeqError"),
)
"""Those of the engine, and those by which the kernel tells forged and replayed packets. It has more, of less consequence."""
PLAINTEXT = Counter(
    "phalanx_plaintext_blocked_packets",
    "Packets in the clear that a guard stopped: the router's, or the one inside the instance's namespace.",
    ["guard"],
)
ROUTER = Counter("phalanx_router_packets", "Packets between instances that the router's guard let pass.", ["kind"])
REKEYS = Counter("phalanx_ipsec_rekeys", "CHILD_SAs that took the place of an earlier one, counted at each end.")
INTERRUPTIONS = Counter(
    "phalanx_ipsec_interruptions",
    "Faults of IKE, data planes, guards or wires that stopped an instance's traffic, or were mended before it could go wrong.",
)

# Prometheus sees no increase in the first sample of a series, and an alert that waits for one would miss the first event after
# each start: what is counted is there from the beginning, at zero.
ENDED.labels("Completed", ""), ENDED.labels("Stopped", "")
for _reason in (*REASONS[1:], "other"):
    ENDED.labels("Failed", _reason)
for _cause in CAUSES:
    DROPS.labels(_cause)
for _direction in ("sent", "received"):
    PACKETS.labels(_direction), BYTES.labels(_direction)
for _guard in ("router", "namespace"):
    PLAINTEXT.labels(_guard)
for _kind in ("ike", "esp"):
    ROUTER.labels(_kind)

Figure = tuple[str, ...]
"""A counter, its label's value where it has one, and whose figure it is."""


class Meter:
    """Adds to the counters what has come since a job was looked at before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, dict[Figure, int]] = {}
        self._earlier: set[str] = set()

    def inherit(self, jobs: Iterable[str]) -> None:
        """These jobs ran under an earlier process, which has counted already what they show at the first look."""
        with self._lock:
            self._earlier.update(jobs)

    def note(self, job: str, report: Json) -> None:
        """Take in what a job's instances have measured until now (`evidence.report`)."""
        with self._lock:
            seen = self._seen.setdefault(job, {})
            first = job in self._earlier
            self._earlier.discard(job)
            for figure, value in _figures(report):
                before = seen.get(figure, 0)
                seen[figure] = value
                # A router that was made anew counts from zero again.
                if not first and (more := value - before if value >= before else value):
                    _add(figure, more)

    def end(self, job: TrainingJob, public_key: str) -> None:
        """A job has ended, with its final evidence, which the key (base64) is to have signed."""
        if job.evidence is not None:
            self.note(job.name, job.evidence)
        with self._lock:
            self._seen.pop(job.name, None)
        reason = (job.failure_reason or "").partition(":")[0]
        ENDED.labels(job.status, reason if reason in REASONS else "other").inc()
        if job.encrypted and job.instances > 1 and evidence.doubt(job, public_key) is not None:
            DOUBTED.inc()


def _figures(report: Json) -> Iterator[tuple[Figure, int]]:
    """What a report says, each figure with its own name."""
    ids = {instance["host"]: instance["id"] for instance in report["instances"]}
    for pair in report["pairs"]:
        whose = (ids[pair["local"]], pair["remote"])
        for name in ("packets", "bytes"):
            yield (name, "sent", *whose), pair[name]
            if (received := pair[f"{name}_received"]) is not None:
                yield (name, "received", *whose), received
        yield ("rekeys", *whose), pair["rekeys"]
    for instance in report["instances"]:
        yield ("interruptions", instance["id"]), len(instance["interruptions"])
        yield (
            ("plaintext", "namespace", instance["id"]),
            (instance["plaintext_blocked_out"] or 0) + (instance["plaintext_blocked_in"] or 0),
        )
        for cause, count in instance["drops"].items():
            yield ("drops", cause, instance["id"]), count
    if (router := report["router_guard"]) is not None:
        yield ("plaintext", "router"), router["dropped_packets"]
        yield ("router", "ike"), router["ike_packets"]
        yield ("router", "esp"), router["esp_packets"]


_LABELLED = {"packets": PACKETS, "bytes": BYTES, "drops": DROPS, "plaintext": PLAINTEXT, "router": ROUTER}
_PLAIN = {"rekeys": REKEYS, "interruptions": INTERRUPTIONS}


def _add(figure: Figure, more: int) -> None:
    if (counter := _PLAIN.get(figure[0])) is not None:
        counter.inc(more)
    else:
        _LABELLED[figure[0]].labels(figure[1]).inc(more)
