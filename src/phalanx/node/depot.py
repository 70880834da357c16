"""A host's images for other hosts: a registry that only gives, over TLS with certificates on both sides.

It speaks as much of the OCI distribution-spec as a pull needs. An image is asked for by its id, and is laid out for it by the
first who asks; podman, which asks, checks all that it gets against its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import structlog

from phalanx.algorithms import catalog
from phalanx.node.messages import Offer
from phalanx.runtime.builder import built
from phalanx.runtime.images import Images
from phalanx.runtime.podman import ImageError

IDLE_SECONDS = 60.0
"""How long a connection may say nothing."""
MISSING = "manifest unknown"
"""What podman says of an image that the registry does not have (OCI distribution-spec, code MANIFEST_UNKNOWN)."""

_REPOSITORY = "phalanx"
_PARTIAL = "new"
"""Where an image is laid out until all of it is there."""
_PATH = re.compile(rf"/v2/{_REPOSITORY}/(?P<kind>manifests|blobs)/(?:sha256:)?(?P<id>[0-9a-f]{{64}})")
_OCI = "application/vnd.oci.image.manifest.v1+json"
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files (PEM) of the authority that both sides trust, and of our certificate and its key."""

    authority: Path
    certificate: Path
    key: Path

    def keep(self, directory: Path) -> None:
        """Have podman find them in `directory` (containers-certs.d(5))."""
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, file in (("ca.crt", self.authority), ("client.cert", self.certificate), ("client.key", self.key)):
            link = directory / name
            link.unlink(missing_ok=True)
            link.symlink_to(file)


class Depot:
    """Gives the images of `store` away, laid out in `directory`, to whoever has a certificate of the fleet's authority.

    It answers at an IPv4 address, at a free port where `port` is 0.
    """

    def __init__(self, store: Path, directory: Path, address: str, port: int, certificates: Certificates) -> None:
        self._images = Images.of(store)
        self._directory = directory
        # What is laid out can be laid out again; so it never outgrows what is asked for.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.authority)
        context.load_cert_chain(certificates.certificate, certificates.key)
        self._server = _Server((address, port), self)
        # Hands are shaken in the connection's own thread.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._address = "{}:{}".format(*self._server.server_address)
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self._server.server_address[1])

    def open(self) -> None:
        """Begin to answer, in threads of its own."""
        threading.Thread(target=self._server.serve_forever, name="depot", daemon=True).start()

    def offer(self, image: str) -> Offer | None:
        """What a job's image is here; None where it is not. Raises ImageError."""
        algorithm = catalog.find(image)
        name = image if algorithm is None else built(f"phalanx/{algorithm.name}", algorithm.contexts)
        id_ = self._images.id(name)
        return None if id_ is None else Offer(f"{self._address}/{_REPOSITORY}:{id_.removeprefix('sha256:')}", id_)

    def manifest(self, id_: str) -> bytes | None:
        """The manifest of an image, all of whose blobs lie ready then; None where the store has none. Raises ImageError."""
        with self._lock:
            place = self._directory / id_
            if not place.exists():
                if not self._images.has(id_):
                    return None
                self._forget()
                log.info("laying an image out for hosts", image=id_)
                partial = self._directory / _PARTIAL
                shutil.rmtree(partial, ignore_errors=True)
                self._images.export(id_, partial)
                partial.rename(place)
            return (place / "manifest.json").read_bytes()

    def blob(self, digest: str) -> Path | None:
        """The file of a blob that lies ready."""
        return next((path for path in self._directory.glob(f"*/{digest}") if path.parent.name != _PARTIAL), None)

    def _forget(self) -> None:
        """Take away what was laid out of images that the store has no more."""
        for place in self._directory.iterdir():
            if not self._images.has(place.name):
                shutil.rmtree(place)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], depot: Depot) -> None:
        super().__init__(address, _Handler)
        self.depot = depot

    def handle_error(self, request: object, client_address: object) -> None:
        """A stranger, or a host that went away."""
        log.info("a connection for images ended", client=client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        asked = _PATH.fullmatch(self.path)
        if self.path == "/v2/":
            self._send(b"{}", "application/json", whole)
        elif asked is None:
            self._missing("NAME_UNKNOWN", whole)
        elif asked["kind"] == "blobs":
            blob = self.server.depot.blob(asked["id"])
            if blob is None:
                self._missing("BLOB_UNKNOWN", whole)
            else:
                self._send(blob, "application/octet-stream", whole)
        else:
            self._manifest(asked["id"], whole)

    def _manifest(self, id_: str, whole: bool) -> None:
        try:
            manifest = self.server.depot.manifest(id_)
        except ImageError as error:
            log.exception("an image cannot be laid out", image=id_)
            self._send(_fault("UNKNOWN", str(error)), "application/json", whole, 500)
            return
        if manifest is None:
            self._missing("MANIFEST_UNKNOWN", whole)
            return
        is_oci = json.loads(manifest)["config"]["mediaType"].startswith("application/vnd.oci.")
        self._send(manifest, _OCI if is_oci else _DOCKER, whole)

    def _missing(self, code: str, whole: bool) -> None:
        self._send(_fault(code, code.lower().replace("_", " ")), "application/json", whole, 404)

    def _send(self, content: bytes | Path, kind: str, whole: bool, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        length = len(content) if isinstance(content, bytes) else content.stat().st_size
        self.send_header("Content-Length", str(length))
        if isinstance(content, bytes):
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(content).hexdigest()}")
        self.end_headers()
        if not whole:
            return
        if isinstance(content, bytes):
            self.wfile.write(content)
        else:
            with content.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, 1 << 20)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads these."""


def _fault(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
