"""strongSwan's IKE daemon of one instance: started detached in its namespace, driven over VICI, found again by its lock."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vici
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from vici.exception import CommandException, DeserializationException, EventUnknownException, SessionException

from phalanx.ipsec.daemon import IKE, Daemon
from phalanx.ipsec.errors import MeshError, Unanswered
from phalanx.ipsec.model import MeshSpec, Peer, Profile

DAEMON = Path("/usr/lib/ipsec/charon")
PLUGINS = (
    *("random", "nonce", "kdf", "sha2", "hmac", "openssl", "pem", "pkcs1", "pkcs8", "x509", "pubkey", "constraints"),
    *("kernel-netlink", "socket-default", "vici"),
)
OPTIONAL = ("ml",)
"""Plugins that are loaded where there are any: ML-KEM, since strongSwan 6.0."""
ML_KEM = "ML_KEM_1024"
"""The key encapsulation of FIPS 203 as charon names it; the only parameters that CNSA 2.0 allows."""
REPLAY_WINDOW = 4096
"""Packets; the most that the kernel takes (XFRMA_REPLAY_ESN_MAX), enough for the batches of a fast wire."""

ANSWER_TIMEOUT = 2.0
"""Seconds that charon may take to answer over VICI before it counts as hanging."""
START_TIMEOUT = 10.0
"""Seconds from the start of charon to its first answer."""
LOG_LIMIT = 4 << 20
"""Bytes that the log may have before it is cut to half of it: it lies in memory."""

_SETTINGS = """\
charon {
  load = @PLUGINS@
  # Routes, addresses and rules are ours: charon neither makes them nor moves its SAs when they change.
  install_routes = no
  install_virtual_ip = no
  # Else it makes a rule for a table of its own, before the main one, in which others could bend the ways to the peers.
  routing_table = 0
  process_route = no
  # Peers are reached on UDP 500 alone. strongSwan cannot do without its second socket, so it gets one away from UDP 4500.
  port = 500
  port_nat_t = 501
  # 0.5 + 0.75 + 1.1 + 1.7 + 2.5 s: together with a dpd_delay of two a dead peer is seen in under ten seconds.
  retransmit_timeout = 0.5
  retransmit_base = 1.5
  retransmit_tries = 4
  # An IKE_SA whose CHILD_SA could not be made serves nobody; gone, it can be made anew.
  close_ike_on_child_failure = yes
  # Cookies prove where a peer is (RFC 7296 section 2.6), as the router does; and where they come and go with the load, an
  # exchange that was begun without one and ends with one fails its signature. What one address leaves half open is bounded.
  cookie_threshold = 0
  cookie_threshold_ip = 0
  ikesa_table_size = 32
  ikesa_table_segments = 4
  plugins {
    kernel-netlink {
      # An XFRM server in userspace may hang; without these charon would wait for it for ever.
      timeout = 1000
      retries = 1
      roam_events = no
    }
    socket-default {
      # IKE leaves by the device that has the local address, whatever routes to the peers a data plane has made.
      set_source = yes
      set_sourceif = yes
      use_ipv6 = no
    }
    vici {
      socket = unix:///run/charon.vici
    }
  }
  filelog {
    stderr {
      time_format = %Y-%m-%dT%H:%M:%S
      time_add_ms = yes
      ike_name = yes
      flush_line = yes
      default = 1
      enc = 0
      net = 0
      job = 0
    }
  }
}
"""

_ADDITIONAL = tuple(f"ake{number}" for number in range(1, 8))
"""Names of additional key exchanges in what charon tells of an IKE_SA (vici's README.md)."""

# In a mount namespace of its own: with the directory bound on /run charon's compiled-in pid file is private, and every path
# of its own (/run/charon.*) is one that Debian's AppArmor profile allows. Only the engine's shim and socket need a
# local rule (deploy/apparmor).
_LAUNCH = """\
rm -f "$1/charon.pid" "$1/charon.vici" &&
mount --bind "$1" /run &&
exec "$2"
"""


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A CHILD_SA as charon sees it. SPIs are numbers; `age` is for how many seconds its keys have been in use."""

    state: str
    unique_id: int
    spi_in: int
    spi_out: int
    age: int


@dataclass(frozen=True, slots=True)
class IkeSa:
    """An IKE_SA as charon sees it; `name` is the peer's. `suite` reads like AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384, with
    what was exchanged besides (RFC 9370) at its end: /ML_KEM_1024."""

    name: str
    state: str
    remote_identity: str
    suite: str
    ppk: bool
    children: tuple[ChildSa, ...]


class Charon:
    """The daemon of one namespace. `rundir` is a private directory in memory; only charon, its log and its sockets use it."""

    def __init__(self, space: str, rundir: Path) -> None:
        self._netns = space
        self._rundir = rundir
        self._daemon = Daemon(space, rundir, IKE)
        self._socket = rundir / "charon.vici"
        self._log_lock = threading.Lock()
        # Bytes of the log's beginning that are gone, so that a position in it stays what it was.
        self._cut = 0

    def pid(self) -> int | None:
        """The running daemon's process id, or None."""
        return self._daemon.pid()

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the daemon and wait until it answers; one that runs is adopted.

        `environment` is added to a bare one; paths in `rundir` are told as the daemon sees them. Raises MeshError with the
        end of its log where it does not come up.
        """
        if not DAEMON.exists():
            raise MeshError(f"{DAEMON} is missing: install strongswan-charon")
        if self.pid() is None:
            there = [name for name in OPTIONAL if plugin(name).exists()]
            (self._rundir / "charon.conf").write_text(_SETTINGS.replace("@PLUGINS@", " ".join((*PLUGINS, *there))))
            seen = {key: value.replace(str(self._rundir), "/run") for key, value in environment.items()}
            self._daemon.launch(
                ("unshare", "--mount", "--propagation", "slave", "sh", "-c", _LAUNCH, "charon", str(self._rundir), str(DAEMON)),
                {"STRONGSWAN_CONF": "/run/charon.conf", **seen},
            )
        deadline = time.monotonic() + START_TIMEOUT
        was_there = False
        while True:
            is_there = self.pid() is not None
            with contextlib.suppress(MeshError):
                if is_there:
                    self.version()
                    return
            if (was_there and not is_there) or time.monotonic() > deadline:
                self.kill()
                raise MeshError(f"charon did not start in namespace {self._netns}: {self._daemon.tail()}")
            was_there = is_there
            time.sleep(0.002)

    def stop(self) -> None:
        """End the daemon: SIGTERM, so that it deletes its SAs at every peer, else SIGKILL. Removes its files but the log."""
        self._end(signal.SIGTERM, signal.SIGKILL)

    def kill(self) -> None:
        """End the daemon at once, hung or not, and remove its files but the log."""
        self._end(signal.SIGKILL)

    def version(self) -> str:
        """strongSwan's version, as the running daemon says it. Raises MeshError where it does not answer in time."""
        with self._session() as session:
            return str(session.version()["version"].decode())

    def load(self, spec: MeshSpec) -> None:
        """Give the daemon its keys and a connection to every peer; what it has of them already stays as it is.

        Everything goes over the VICI socket: no key touches a file or an argument list. Raises MeshError.
        """
        with self._session() as session:
            loaded = {name.decode() for name in session.get_conns().get("conns", [])}
            missing = [peer for peer in spec.peers if peer.name not in loaded]
            if not missing:
                return
            credentials = spec.credentials
            session.load_key({"type": "ecdsa", "data": credentials.private_key})
            session.load_shared(
                {"id": "ppk", "type": "ppk", "data": bytes.fromhex(credentials.ppk), "owners": [credentials.ppk_id]}
            )
            # The daemon is asked, not its version: it may have been built without.
            known = session.get_algorithms()
            hybrid = ML_KEM in known.get("ke", {})
            for peer in missing:
                session.load_conn({peer.name: connection(spec, peer, hybrid)})

    def initiate(self, names: Iterable[str]) -> None:
        """Tell the daemon to establish IKE_SA and CHILD_SA with these peers, and do not wait for it."""
        with self._session() as session:
            for name in names:
                # Not session.initiate(), which also wants to be told what charon logs meanwhile.
                session.request("initiate", {"ike": name, "child": name, "timeout": "-1", "init-limits": "no"})

    def associations(self) -> list[IkeSa]:
        """All IKE_SAs and their CHILD_SAs."""
        with self._session() as session:
            return [_ike_sa(name, values) for message in session.list_sas() for name, values in message.items()]

    def certificates(self) -> dict[str, str]:
        """SHA-256 fingerprints (hex) of the end-entity certificates that the daemon holds or was shown, by DNS identity."""
        found: dict[str, str] = {}
        with self._session() as session:
            for message in session.list_certs({"type": "X509", "flag": "NONE"}):
                certificate = x509.load_der_x509_certificate(message["data"])
                names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                for name in names.get_values_for_type(x509.DNSName):
                    found[name] = certificate.fingerprint(hashes.SHA256()).hex()
        return found

    def trim_log(self) -> None:
        """Keep the last lines of a log that has grown past LOG_LIMIT. May be called from any thread. Raises OSError."""
        with self._log_lock, contextlib.suppress(FileNotFoundError):
            size = self._daemon.log.stat().st_size
            if size <= LOG_LIMIT:
                return
            # As the daemon does, it appends: what the daemon writes meanwhile stays, at most a little before its place.
            with open(self._daemon.log, "rb+", opener=lambda path, flags: os.open(path, flags | os.O_APPEND)) as file:
                file.seek(size - LOG_LIMIT // 2)
                kept = file.read().partition(b"\n")[2]
                size = file.tell()
                file.truncate(0)
                file.write(kept)
            self._cut += size - len(kept)

    def log_size(self) -> int:
        """Bytes that were logged so far: where what happens next will be written, whatever is cut off before it."""
        with self._log_lock:
            try:
                return self._cut + self._daemon.log.stat().st_size
            except FileNotFoundError:
                return self._cut

    def said(self, name: str, since: int) -> list[str]:
        """What the daemon logged about its dealings with a peer after `log_size` was `since`, as far as it was kept."""
        try:
            with self._log_lock, self._daemon.log.open("rb") as file:
                file.seek(max(0, since - self._cut))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return re.findall(rf"^\S+ \d+\[\w+\] <{re.escape(name)}\|\d+> (.*)$", text, re.MULTILINE)

    def _end(self, *signals: signal.Signals) -> None:
        self._daemon.end(*signals)
        for name in ("charon.vici", "charon.pid", "charon.conf"):
            (self._rundir / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        connection = socket.socket(socket.AF_UNIX)
        try:
            # Not settimeout(): the client clears it after the first byte, and would then wait for a stopped daemon for ever.
            limit = struct.pack("=qq", int(ANSWER_TIMEOUT), int(ANSWER_TIMEOUT % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connection.connect(str(self._socket))
            yield vici.Session(connection)
        except (OSError, SessionException, EventUnknownException, DeserializationException) as error:
            # The client takes back its wish for events even after a timeout, and stumbles over the late answer.
            if isinstance(error, BlockingIOError) or isinstance(error.__context__, BlockingIOError):
                raise Unanswered(f"charon in namespace {self._netns} does not answer within {ANSWER_TIMEOUT} s") from error
            raise MeshError(f"charon in namespace {self._netns} cannot be reached: {error}") from error
        except CommandException as error:
            raise MeshError(f"charon in namespace {self._netns} refused: {error}") from error
        finally:
            connection.close()


def initiates(spec: MeshSpec, peer: Peer) -> bool:
    """Whether this side of the pair starts IKE: the one whose name sorts first."""
    return spec.name < peer.name


def plugin(name: str) -> Path:
    """Where strongSwan has the plugin of that name, if it has."""
    return DAEMON.parent / "plugins" / f"libstrongswan-{name}.so"


def dead_peer_delay(peers: int) -> int:
    """After how many seconds of silence a peer is asked whether it lives (RFC 3706): two, or of 48 peers and more a sixteenth
    for each, in whole seconds. It takes a millisecond of CPU at either end, and a peer's host is missed by others as well."""
    return max(2, peers // 16)


def proposals(profile: Profile, hybrid: bool) -> tuple[list[str], list[str]]:
    """What is offered and taken for IKE and for ESP, the best first; `hybrid`: whether the daemon has ML-KEM-1024.

    `cnsa` is NSA's suite for IPsec (RFC 9206: HMAC-SHA-512 as PRF, ECDH and ECDSA on P-384), and, of daemons that have it,
    nothing without ML-KEM-1024 besides (CNSA 2.0; RFC 9370). `standard` takes P-384 alone from a peer whose daemon has no
    ML-KEM. Which of the two it was is authenticated with the rest of the exchange, so nobody between them can choose.
    """
    ike = f"aes256gcm16-prfsha{512 if profile == 'cnsa' else 384}-ecp384"
    classic = [ike], ["aes256gcm16-ecp384-esn"]
    if not hybrid:
        return classic
    better = [f"{ike}-ke1_mlkem1024"], ["aes256gcm16-ecp384-ke1_mlkem1024-esn"]
    return better if profile == "cnsa" else (better[0] + classic[0], better[1] + classic[1])


def connection(spec: MeshSpec, peer: Peer, hybrid: bool = False) -> dict[str, Any]:
    """A pair as VICI's load-conn takes it (swanctl.conf(5)): only `proposals`, one authority, one identity, PPK required.

    `dpd_delay` and lifetimes in seconds. What must be rekeyed by bytes and packets dies a tenth later, should rekeying fail.
    """
    life = spec.lifetimes
    credentials = spec.credentials
    first = initiates(spec, peer)
    ike, esp = proposals(spec.profile, hybrid)
    return {
        "version": "2",
        "proposals": ike,
        "local_addrs": [spec.address],
        "remote_addrs": [peer.address],
        "mobike": "no",
        "encap": "no",
        "unique": "replace",
        "keyingtries": "0",
        "dpd_delay": f"{dead_peer_delay(len(spec.peers))}s",
        "rekey_time": "4h",
        "send_cert": "always",
        "ppk_id": credentials.ppk_id,
        "ppk_required": "yes",
        "local": {"auth": "ecdsa-384-sha384", "id": spec.identity, "certs": [credentials.certificate]},
        "remote": {"auth": "ecdsa-384-sha384", "id": peer.identity, "cacerts": [credentials.authority]},
        "children": {
            peer.name: {
                "mode": "tunnel",
                # Six bits of each packet that a container could say anything by.
                "copy_dscp": "no",
                "esp_proposals": esp,
                "local_ts": [f"{spec.address}/32"],
                "remote_ts": [f"{peer.address}/32"],
                "replay_window": str(REPLAY_WINDOW),
                "rekey_time": f"{life.seconds}s",
                "life_time": f"{life.seconds * 11 // 10 + 1}s",
                "rekey_bytes": str(life.bytes),
                "life_bytes": str(life.bytes * 11 // 10),
                "rekey_packets": str(life.packets),
                "life_packets": str(life.packets * 11 // 10),
                "dpd_action": "restart" if first else "clear",
                "start_action": "none",
                "close_action": "none",
            }
        },
    }


def _ike_sa(name: str, values: Mapping[str, Any]) -> IkeSa:
    def text(section: Mapping[str, Any], key: str) -> str:
        value = section.get(key, b"")
        return value.decode() if isinstance(value, bytes) else str(value)

    encryption = "-".join(filter(None, (text(values, "encr-alg"), text(values, "encr-keysize"))))
    return IkeSa(
        name=name,
        state=text(values, "state"),
        remote_identity=text(values, "remote-id"),
        suite="/".join(filter(None, (encryption, *(text(values, key) for key in ("prf-alg", "dh-group", *_ADDITIONAL))))),
        ppk=text(values, "ppk") == "yes",
        children=tuple(
            ChildSa(
                state=text(child, "state"),
                unique_id=int(text(child, "uniqueid") or 0),
                spi_in=int(text(child, "spi-in") or "0", 16),
                spi_out=int(text(child, "spi-out") or "0", 16),
                age=int(text(child, "install-time") or 0),
            )
            for child in values.get("child-sas", {}).values()
        ),
    )
