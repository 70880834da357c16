"""The signed encryption report of a job: what was measured at its instances, never what was configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple

from phalanx import __version__
from phalanx.fleet.base import Fleet, Refused
from phalanx.ipsec.model import PairReport, Work
from phalanx.jobs.plan import Placement, Plan
from phalanx.jobs.signature import Tampered, verify
from phalanx.network.model import GuardCounters, Watched
from phalanx.node.messages import Guards, Measurement
from phalanx.store.base import Json, now_ms
from phalanx.store.jobs import TrainingJob


def check(report: Json, job: TrainingJob, public_key: str) -> None:
    """Raises Tampered unless a report is the one that the service with that key (base64) has signed for the job."""
    verify(report, public_key)
    if (report.get("job"), report.get("arn")) != (job.name, job.arn):
        raise Tampered(f"The report is that of another job, {report.get('job')}")
    # A deleted job's name, and with it the ARN, may be taken again. Before version 3 a report did not tell of which it is.
    if report["created"] != job.created if "created" in report else report["measured_at"] < job.created:
        raise Tampered(f"The report is that of an earlier job of the name {job.name}")


def doubt(job: TrainingJob, public_key: str) -> str | None:
    """Why it cannot be shown that the traffic of a job of several instances was encrypted; None where it can.

    `public_key` (base64) is the one of the service's reports. A job that has not ended has no report yet, which is no reason to
    doubt it.
    """
    if not job.encrypted:
        return "encryption was not requested"
    if job.evidence is None:
        return "it ended without a report" if job.stage == "ended" else None
    try:
        check(job.evidence, job, public_key)
    except Tampered as error:
        return str(error)
    if (found := first_fault(job.evidence)) is not None:
        return found
    if job.evidence["encrypted"] is not True and job.evidence.get("ran", True):
        return "its report does not say that it was encrypted"
    return None


def signed_summary(job: TrainingJob, public_key: str) -> Json | None:
    """The `summary` of a job's report; None where there is none that the service with that key (base64) has signed for it."""
    if job.evidence is None:
        return None
    try:
        check(job.evidence, job, public_key)
    except Tampered:
        return None
    return summary(job.evidence)


def first_fault(report: Json) -> str | None:
    """Why a job's report does not show that its traffic was encrypted in all attempts; None where it does."""
    last, *earlier = _attempts(report)
    faults = (fault(last), *(fault(attempt, " in an earlier attempt") for attempt in earlier))
    return next(filter(None, faults), None)


def fault(report: Json, when: str = "") -> str | None:
    """Why one attempt's report does not show that its traffic was encrypted, with `when` among the words; or None."""
    # A report of version 1 tells of no capture.
    capture = report.get("capture")
    if capture is not None and capture["clear"]:
        return f"{capture['clear']} packets in the clear were seen on the wires of its instances{when}"
    # Where no container was started there was nothing to measure. Before version 3 a report did not tell.
    if report["gaps"] and report.get("ran", True):
        return f"not all was measured{when}: {report['gaps'][0]}"
    return None


def _attempts(report: Json) -> list[Json]:
    """All that were made at the job, the last one first."""
    return [report, *reversed(report.get("earlier_attempts", []))]


def with_attempt(kept: Json | None, report: Json) -> Json:
    """What `TrainingJob.attempts` holds once an attempt is over whose instances have measured this, and another follows."""
    earlier = kept["reports"] if kept else []
    return {"reports": [*earlier, {name: value for name, value in report.items() if name != "earlier_attempts"}]}


def summary(report: Json) -> Json:
    """What a report says of its job in short, for the report of an account; by its `signature` the whole is known again."""
    attempts = _attempts(report)
    pairs = [pair for attempt in attempts for pair in attempt["pairs"]]
    return {
        "requested_by": report.get("requested_by"),
        "data_plane": report["data_plane"],
        "algorithms": sorted({f"{pair['algorithm']}-{pair['key_bits']}, {pair['ike']}" for pair in pairs if pair["algorithm"]}),
        "certificates": sorted({pair[end] for pair in pairs for end in ("local_certificate", "remote_certificate")} - {""}),
        "spis": sorted(pair["spi"] for pair in pairs if pair["spi"]),
        "rekeys": sum(pair["rekeys"] for pair in pairs),
        "packets": sum(pair["packets"] for pair in pairs),
        "bytes": sum(pair["bytes"] for pair in pairs),
        "plaintext_packets_dropped": sum(attempt["plaintext_packets_dropped"] for attempt in attempts),
        "capture": report.get("capture"),
        "attempts": len(attempts),
        "measured_at": report["measured_at"],
        "signature": report["signature"]["value"],
    }


def measured(fleet: Fleet, job: TrainingJob, plan: Plan) -> Json:
    """The report, unsigned, of what a job's instances measure now; what one of them refuses to tell is a gap.

    Raises fleet.Unreachable.
    """
    statuses = fleet.statuses(plan.ids)
    gaps: list[str] = []
    measurements: list[Measurement] = []
    for id_ in plan.ids:
        if id_ in statuses:
            try:
                measurements += fleet.measure([id_])
            except Refused as error:
                gaps.append(str(error))
    return report(job, plan, measurements, gaps, {id_: status.notes for id_, status in statuses.items()})


def report(
    job: TrainingJob,
    plan: Plan | None,
    measurements: Sequence[Measurement],
    gaps: Sequence[str],
    interruptions: Mapping[str, Sequence[str]],
) -> Json:
    """The report of a job, unsigned.

    `gaps` are the reasons why something could not be measured, `interruptions` by instance id what stopped its traffic.
    """
    told = {item.host: item for item in measurements}
    meshes = [item.mesh for item in measurements if item.mesh is not None]
    wires = [item.watched for item in measurements if item.watched is not None]
    guards = _guards(measurements)
    router = _sum(list(guards.values())) if guards else None
    capture = _capture(wires) if wires else None
    received = {(pair.remote, pair.local): pair for mesh in meshes for pair in mesh.pairs}
    ran = plan is not None and plan.ran
    due = job.encrypted and job.instances > 1 and ran
    unmeasured = _unmeasured(plan, measurements) if due and plan is not None else []
    encrypted = due and not unmeasured and all(pair.strong for pair in received.values())
    blocked = sum(mesh.plaintext_blocked_out + mesh.plaintext_blocked_in for mesh in meshes)
    return {
        "version": 3,
        "phalanx": __version__,
        "job": job.name,
        "arn": job.arn,
        "created": job.created,
        "requested_by": job.caller,
        "measured_at": now_ms(),
        "encryption_requested": job.encrypted,
        "ran": ran,
        "encrypted": encrypted,
        "note": _note(job, capture, ran, encrypted),
        "data_plane": ", ".join(sorted({mesh.data_plane for mesh in meshes})) or None,
        "instances": [
            _instance(placement, told.get(placement.host), interruptions.get(placement.id, ()))
            for placement in (plan.placements if plan else ())
        ],
        "pairs": [_pair(pair, received.get((pair.local, pair.remote))) for mesh in meshes for pair in mesh.pairs],
        "router_guard": asdict(router) if router else None,
        "capture": capture,
        "plaintext_packets_dropped": (router.dropped_packets if router else 0) + blocked,
        "gaps": [*gaps, *unmeasured, *_gaps(measurements, guards)],
        "earlier_attempts": job.attempts["reports"] if job.attempts else [],
    }


def _instance(placement: Placement, told: Measurement | None, interruptions: Sequence[str]) -> Json:
    """One instance, by what it has told of itself, if anything."""
    mesh = told.mesh if told else None
    return {
        "host": placement.host,
        "id": placement.id,
        "address": placement.eni.address,
        "eni": placement.eni.id,
        "security_groups": list(placement.eni.groups),
        "data_plane": mesh.data_plane if mesh else None,
        "plaintext_blocked_out": mesh.plaintext_blocked_out if mesh else None,
        "plaintext_blocked_in": mesh.plaintext_blocked_in if mesh else None,
        "interruptions": list(interruptions),
        "versions": dict(mesh.versions) if mesh else {},
        "drops": dict(mesh.drops) if mesh else {},
        "work": _work(mesh.work) if mesh else None,
        "guards": asdict(told.guards if told else Guards()),
        "wire": asdict(told.watched) if told and told.watched is not None else None,
    }


def _pair(pair: PairReport, arrived: PairReport | None) -> Json:
    """One direction, as its sender has measured it; what has `arrived`, as its receiver has."""
    return {
        "local": pair.local,
        "remote": pair.remote,
        "established": pair.established,
        "algorithm": pair.algorithm,
        "key_bits": pair.key_bits,
        "esn": pair.esn,
        "ike": pair.ike,
        "ppk": pair.ppk,
        "spi": pair.spi_out,
        "packets": pair.packets_out,
        "bytes": pair.bytes_out,
        "packets_received": arrived.packets_in if arrived else None,
        "bytes_received": arrived.bytes_in if arrived else None,
        "rekeys": pair.rekeys,
        "key_age_seconds": pair.key_age,
        "local_certificate": pair.local_certificate,
        "remote_certificate": pair.remote_certificate,
    }


def _guards(measurements: Sequence[Measurement]) -> dict[str, GuardCounters]:
    """What the router guard of each machine has counted; all its instances share one, so that is taken once."""
    guards: dict[str, GuardCounters] = {}
    for item in measurements:
        if item.guard is not None:
            counted = (guards.get(item.machine, item.guard), item.guard)
            guards[item.machine] = max(counted, key=lambda guard: (guard.dropped_packets, guard.esp_packets))
    return guards


def _gaps(measurements: Sequence[Measurement], guards: Mapping[str, GuardCounters]) -> Iterator[str]:
    """Why what was measured shows less than it should."""
    sent: Counter[str] = Counter()
    for item in measurements:
        pairs = item.mesh.pairs if item.mesh else ()
        if item.guard is not None:
            sent[item.machine] += sum(pair.packets_out for pair in pairs)
        for pair in pairs:
            # Nothing else is negotiated; were it all the same, the report must not pass for one of an encrypted job.
            if pair.algorithm and not pair.strong:
                yield (
                    f"{pair.local} and {pair.remote} negotiated too little: IKE {pair.ike or 'unknown'}, ESP {pair.algorithm}"
                    f" with {pair.key_bits} bits, {'with' if pair.esn else 'without'} ESN,"
                    f" {'with' if pair.ppk else 'without'} PPK."
                )
    if any(guard.esp_packets < sent[machine] for machine, guard in guards.items()):
        yield (
            "The router's guard counted fewer ESP packets than the instances sent: packets were lost on the way, or somebody"
            " took the guard's counters away, and with them how much plaintext it had dropped."
        )
    for item in measurements:
        if item.mesh is not None and item.watched is None:
            yield f"The wire of {item.host} was not watched."


def _unmeasured(plan: Plan, measurements: Sequence[Measurement]) -> list[str]:
    """Of a job whose containers were started: what is missing to show by what each instance's packets to the others went."""
    told = {item.host: item.mesh for item in measurements}
    gaps = []
    for each in plan.placements:
        if each.host not in told:
            gaps.append(f"{each.host} was gone before it was measured.")
        elif (mesh := told[each.host]) is None:
            gaps.append(f"{each.host} had neither IKE daemon nor data plane: nothing encrypted what it sent.")
        else:
            shown = {pair.remote for pair in mesh.pairs if pair.algorithm}
            gaps += [
                f"No security association from {each.host} to {peer.host} was there when it was measured: nothing shows by what"
                " its packets went."
                for peer in plan.placements
                if peer.host not in shown | {each.host}
            ]
    return gaps


def _work(work: Work | None) -> Json | None:
    """What carrying the packets took an instance's data plane, in whole milliseconds."""
    if work is None:
        return None
    return {
        "milliseconds_in": round(1000 * work.seconds_in),
        "milliseconds_out": round(1000 * work.seconds_out),
        "wakes": work.wakes,
    }


def _sum(guards: Sequence[GuardCounters]) -> GuardCounters:
    """What the guards of several routers have counted: what passes at its sender's, what is dropped where it is."""
    return GuardCounters(*(sum(values) for values in zip(*map(astuple, guards), strict=True)))


def _capture(wires: Sequence[Watched]) -> Json:
    """What was seen on all wires together: a frame is seen where it is sent, so each is counted once."""
    clear, away = sum(wire.clear for wire in wires), any(wire.away for wire in wires)
    return {
        "verdict": "in the clear" if clear else "encrypted while watched" if away else "all encrypted",
        "since": min(wire.since for wire in wires),
        "until": max(wire.until for wire in wires),
        "esp": sum(wire.esp for wire in wires),
        "ike": sum(wire.ike for wire in wires),
        "neighbour": sum(wire.neighbour for wire in wires),
        "clear": clear,
        "milliseconds_away": sum(ended - begun for wire in wires for begun, ended in wire.away),
    }


def _note(job: TrainingJob, capture: Json | None, ran: bool, encrypted: bool) -> str:
    if job.encrypted and job.instances == 1:
        return "One instance: nothing crosses a network between instances, so no IKE daemon and no data plane were started."
    if capture is not None and capture["clear"]:
        return "Packets in the clear were seen on the wires of the instances; the guards say what was stopped."
    if not job.encrypted:
        return "Inter-container traffic encryption was not requested: traffic between the instances was not encrypted."
    if not ran:
        when = " in the last attempt" if job.attempts else ""
        return f"No training container was started{when}: there was nothing to send between the instances."
    if not encrypted:
        return "Encryption was requested, but it was not measured of all instances that what they sent was encrypted."
    return "All traffic between the instances was IPsec ESP, or was stopped."
