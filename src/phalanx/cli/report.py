"""The encryption report of a job as a page for auditors: one HTML file that needs nothing else, the signed report in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from phalanx.jobs.evidence import fault

CONTROLS = (
    (
        "HIPAA Security Rule, 45 CFR §164.312(e)(1) and (e)(2)(ii)",
        "Transmission security; encryption of electronic protected health information in transit",
        "Traffic between the instances was encrypted by IPsec ESP with AES-256-GCM. What was not encrypted was stopped, and is"
        " counted below.",
    ),
    (
        "HIPAA Security Rule, 45 CFR §164.312(e)(2)(i)",
        "Integrity controls: transmitted data is not modified without detection",
        "AES-GCM authenticates every packet (16-byte ICV), with extended sequence numbers against replay. Packets that failed"
        " are counted as drops of their instance.",
    ),
    (
        "PCI DSS 4.0.1, requirement 4.2.1",
        "Strong cryptography over networks: trusted keys and certificates only, valid ones, no fallback to insecure versions",
        "Each instance proved itself by a P-384 certificate of the job's own authority, named below, and a pre-shared key on"
        " top (PPK, RFC 8784). Nothing weaker than AES-256-GCM, SHA-384 and P-384 is offered or taken. Without a security"
        " association nothing passes.",
    ),
    (
        "PCI DSS 4.2.1.1",
        "Inventory of trusted keys and certificates",
        "The fingerprints (SHA-256) of both certificates of each pair, and the SPIs of its security associations.",
    ),
)

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #16191f; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #d5dbdb }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } caption { text-align: left; color: #545b64 }
th, td { border: 1px solid #d5dbdb; padding: .3rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #f2f3f3 } td.number { text-align: right; font-variant-numeric: tabular-nums }
code, pre { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere } pre { white-space: pre-wrap }
.verdict { border-left: .5rem solid; padding: .6rem 1rem; margin: 1rem 0; background: #f2f3f3 }
.good { border-color: #1d8102 } .bad { border-color: #d13212 }
@media print { details > pre { display: none } }
"""


_CLASSES = ("esp", "ike", "neighbour", "clear")


def page(report: dict[str, Any]) -> str:
    """The HTML of a signed report. All that a job's owner could choose is escaped."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Encryption in transit: {escape(report["job"])}'
        f"</title><style>{_STYLE}</style></head><body>\n" + "\n".join(_body(report)) + "\n</body></html>\n"
    )


def _body(report: dict[str, Any]) -> Iterator[str]:
    """The page's sections: those of which the report has something, and how it is checked."""
    yield f"<h1>Encryption in transit: {escape(report['job'])}</h1>"
    yield _verdict(report)
    yield _table("", (), _facts(report))
    if report["encrypted"]:
        yield "<h2>Controls that this report answers</h2>"
        yield _table("", ("Control", "It asks for", "Evidence"), CONTROLS)
    if report["pairs"]:
        yield "<h2>Security associations, by direction</h2>"
        yield _pairs(report["pairs"])
    # A report of version 1 has neither this nor guards over time.
    if report.get("capture") is not None:
        yield "<h2>What was captured on the wires</h2>"
        yield from _capture(report)
    yield "<h2>Guards</h2>"
    yield _guards(report)
    if changes := _changes(report):
        yield "<h2>Guards over time</h2>"
        yield _table(
            "From each moment on, which guards were seen to hold: the router's, and the one in the instance's kernel.",
            ("Instance", "From", "Held by", "Cause"),
            changes,
        )
    if interruptions := [(each["host"], text) for each in report["instances"] for text in each["interruptions"]]:
        yield "<h2>Interruptions</h2>"
        yield (
            "<p>What happened to the job's network, oldest first. The guards stood meanwhile: traffic stopped, and was not"
            " sent in the clear.</p>"
        )
        yield _table("", ("Instance", "What"), interruptions)
    if earlier := report.get("earlier_attempts"):
        yield "<h2>Earlier attempts</h2>"
        yield _earlier(earlier)
    if report["gaps"]:
        yield "<h2>Not measured</h2>"
        yield from ("<ul>", *(f"<li>{escape(gap)}</li>" for gap in report["gaps"]), "</ul>")
    yield "<h2>How to check this report</h2>"
    yield "<p>Save the text below as <code>report.json</code> and run, on any machine, without access to the service:</p>"
    yield f"<pre>phalanx evidence --verify report.json --key {escape(report['signature']['public_key'])}</pre>"
    yield (
        "<p>It fails if one byte was changed. Compare the key with the one that the service's administrator published"
        " (<code>phalanx evidence --public-key</code>). The signature (Ed25519, RFC 8032) is over the JSON without its"
        " <code>signature.value</code>, keys sorted, without spaces, in UTF-8.</p>"
    )
    yield f"<details open><summary>The signed report</summary><pre>{escape(json.dumps(report, indent=2))}</pre></details>"


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Training job", report["job"]),
        ("ARN", report["arn"]),
        # Before version 3 a report did not tell.
        *([("Created", moment(report["created"]))] if "created" in report else []),
        ("Requested by", report["requested_by"]),
        ("Measured", moment(report["measured_at"])),
        ("Encryption requested", "yes" if report["encryption_requested"] else "no"),
        ("Data plane", _planes(report)),
        ("Versions", _versions(report)),
        ("Signed by", report["signature"]["public_key"]),
    ]


def _changes(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """When other guards held than before, of each instance."""
    return [
        (each["host"], moment(change["at"]), " and ".join(change["held_by"]) or "none that anybody saw", change["cause"])
        for each in report["instances"]
        for change in each.get("guards", {"changes": []})["changes"]
    ]


def _planes(report: dict[str, Any]) -> str:
    """In words; where they differ, with the instances that had each."""
    words = {"kernel": "the Linux kernel's ESP", "engine": "Phalanx's ESP engine"}
    if (plane := report["data_plane"]) is None or plane in words:
        return words.get(plane, "none")
    return "; ".join(
        f"{words[plane]} ({', '.join(each['host'] for each in report['instances'] if each['data_plane'] == plane)})"
        for plane in plane.split(", ")
    )


def _versions(report: dict[str, Any]) -> str:
    """Of all that encrypts, wherever an instance ran."""
    found = {f"{name} {version}" for instance in report["instances"] for name, version in instance["versions"].items()}
    return ", ".join([f"Phalanx {report['phalanx']}", *sorted(found)])


def _verdict(report: dict[str, Any]) -> str:
    capture = report.get("capture")
    if not report["encryption_requested"]:
        kind, text = "bad", "Encryption was not requested for this job."
    elif capture is not None and capture["clear"]:
        kind, text = "bad", f"{report['note']} {capture['clear']:,} packets in the clear: see below."
    elif fault(report):
        kind, text = "bad", f"{report['note']} Not everything could be measured: see below."
    elif any(map(fault, report.get("earlier_attempts", []))):
        kind, text = "bad", f"{report['note']} That cannot be shown of an earlier attempt: see below."
    elif not report["encrypted"]:
        kind, text = "good", report["note"]
    else:
        carried = sum(pair["bytes"] for pair in report["pairs"])
        stopped = report["plaintext_packets_dropped"]
        kind = "good"
        text = (
            f"{report['note']} {carried:,} bytes were carried between {len(report['instances'])} instances by AES-256-GCM;"
            f" {stopped:,} packets in the clear were stopped."
        )
        if capture is not None and capture["milliseconds_away"]:
            text += " The wires were not watched all the time: see below."
    return f'<p class="verdict {kind}">{escape(text)}</p>'


def _earlier(attempts: Sequence[dict[str, Any]]) -> str:
    columns = ("Attempt", "Measured", "Data plane", "Captured", "Bytes", "In the clear, stopped", "Not measured")
    return _table(
        "What was measured at the job's instances before it was given others. All of it is in the signed report.",
        columns,
        (
            (
                number,
                moment(each["measured_at"]),
                each["data_plane"] or "none",
                each["capture"]["verdict"] if each["capture"] else "no",
                sum(pair["bytes"] for pair in each["pairs"]),
                each["plaintext_packets_dropped"],
                " ".join(each["gaps"]),
            )
            for number, each in enumerate(attempts, 1)
        ),
    )


def _pairs(pairs: Sequence[dict[str, Any]]) -> str:
    columns = ("From → to", "ESP", "IKE", "SPI", "Rekeys", "Packets", "Bytes", "Bytes received", "Certificates (SHA-256)")
    return _table(
        "Inner packets and bytes, summed over all security associations that the pair had; of a data plane that died, those"
        " until it was last read (see its interruption).",
        columns,
        (
            (
                f"{pair['local']} → {pair['remote']}",
                f"{pair['algorithm']}, {pair['key_bits']} bits{', ESN' if pair['esn'] else ''}",
                pair["ike"] + (", PPK" if pair["ppk"] else ""),
                pair["spi"],
                pair["rekeys"],
                pair["packets"],
                pair["bytes"],
                "not measured" if pair["bytes_received"] is None else pair["bytes_received"],
                f"{pair['local_certificate']} {pair['remote_certificate']}",
            )
            for pair in pairs
        ),
    )


def _capture(report: dict[str, Any]) -> list[str]:
    rows: list[tuple[Any, ...]] = []
    unseen, sightings = [], []
    for each in report["instances"]:
        if (wire := each["wire"]) is not None:
            rows.append((each["host"], moment(wire["since"]), moment(wire["until"]), *(wire[name] for name in _CLASSES)))
            unseen += [(each["host"], moment(begun), moment(ended)) for begun, ended in wire["away"]]
            sightings += [
                (each["host"], moment(seen["at"]), f"{seen['source']} → {seen['destination']}", seen["kind"], seen["head"])
                for seen in wire["sightings"]
            ]
    parts = [
        _table(
            f"Verdict: {report['capture']['verdict']}. Frames that each instance sent to the others, counted on its wire before"
            " any guard of the router, by sockets that depend on no guard.",
            ("Instance", "From", "Until", "ESP", "IKE", "ARP, neighbour discovery", "In the clear"),
            rows,
        )
    ]
    if unseen:
        parts.append(_table("Nobody watched; only the guards stood:", ("Instance", "From", "Until"), unseen))
    if sightings:
        columns = ("Instance", "Seen", "From → to", "Kind", "Headers")
        parts.append(_table("The first frames in the clear:", columns, sightings))
    return parts


def _guards(report: dict[str, Any]) -> str:
    router = report["router_guard"]
    rows: list[tuple[Any, ...]] = []
    if router:
        rows.append(("the VPC's router", "IKE passed", router["ike_packets"], router["ike_bytes"]))
        rows.append(("the VPC's router", "ESP passed", router["esp_packets"], router["esp_bytes"]))
        rows.append(("the VPC's router", "all else, dropped", router["dropped_packets"], router["dropped_bytes"]))
    for each in report["instances"]:
        if each["plaintext_blocked_out"] is not None:
            rows.append(
                (f"the kernel of {each['host']}", "in the clear, going out, blocked", each["plaintext_blocked_out"], "")
            )
            rows.append((f"the kernel of {each['host']}", "in the clear, coming in, blocked", each["plaintext_blocked_in"], ""))
        rows += [
            (f"the data plane of {each['host']}", f"dropped: {cause}", count, "")
            for cause, count in each["drops"].items()
            if count
        ]
    if not rows:
        return "<p>None: nothing was encrypted between instances.</p>"
    return _table("What each guard counted from the job's start to its end.", ("Guard", "What", "Packets", "Bytes"), rows)


def moment(milliseconds: int) -> str:
    """A time in milliseconds since the epoch, in UTC. Raises ValueError, OverflowError, OSError or TypeError."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    if columns:
        head += "<tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr>"
    return f"<table>{head}" + "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows) + "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"
