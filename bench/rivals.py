"""What else encrypts in userspace: strongSwan's kernel-libipsec, wireguard-go, a TLS 1.3 proxy pair."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import time
from pathlib import Path

import vici
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.lab import Host, Pair, run
from bench.traffic import PORT, await_echo

LIBIPSEC_MTU = 1400
"""The one that strongSwan's plugin gives its TUN device, whatever the network has."""
WIREGUARD_MTU = 8920
TLS_PORT = PORT + 2

_CHARON = "/usr/lib/ipsec/charon"
_PLUGINS = (
    "random nonce aesni aes sha1 sha2 hmac kdf gcm openssl pem pkcs1 pubkey kernel-libipsec kernel-netlink socket-default vici"
)


class Libipsec:
    """Two charons whose plugin carries ESP in UDP through a TUN device of its own."""

    def __init__(self, pair: Pair) -> None:
        a, b = pair.hosts
        for host in pair.hosts:
            self._start(host)
        secret = secrets.token_hex(16)
        for host, peer in ((a, b), (b, a)):
            with self._session(host) as plug:
                session = vici.Session(plug)
                session.load_shared({"type": "ike", "data": secret, "owners": [a.plain, b.plain]})
                session.load_conn({"bench": {
                    "version": "2", "mobike": "no", "local_addrs": [host.plain], "remote_addrs": [peer.plain],
                    "proposals": ["aes256gcm16-prfsha384-ecp384"],
                    "local": {"auth": "psk", "id": host.plain}, "remote": {"auth": "psk", "id": peer.plain},
                    "children": {"bench": {"local_ts": [f"{host.secure}/32"], "remote_ts": [f"{peer.secure}/32"],
                                           "mode": "tunnel", "esp_proposals": ["aes256gcm16-ecp384"]}},
                }})  # fmt: skip
        with self._session(a) as plug:
            for _ in vici.Session(plug).initiate({"child": "bench", "timeout": "10000"}):
                pass
        await_echo(a, b.secure, a.rundir / "charon.log")

    @staticmethod
    def _session(host: Host) -> socket.socket:
        plug = socket.socket(socket.AF_UNIX)
        plug.connect(str(host.rundir / "vici"))
        return plug

    @staticmethod
    def _start(host: Host) -> None:
        configuration = host.rundir / "strongswan.conf"
        configuration.write_text(f"""
charon {{
  load = {_PLUGINS}
  plugins {{
    vici {{
      socket = unix://{host.rundir}/vici
    }}
  }}
  filelog {{
    stderr {{
      default = 1
    }}
  }}
}}
""")
        host.start(
            "unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /run && exec {_CHARON}",
            log="charon.log", env={**os.environ, "STRONGSWAN_CONF": str(configuration)},
        )  # fmt: skip
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as plug:
                if plug.connect_ex(str(host.rundir / "vici")) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"charon does not start: {(host.rundir / 'charon.log').read_text()[-800:]}")


class WireguardGo:
    """Debian's wireguard-go at both ends."""

    def __init__(self, pair: Pair) -> None:
        keys = [X25519PrivateKey.generate() for _ in pair.hosts]
        self._sockets: list[Path] = []
        for host, peer in (pair.hosts, pair.hosts[::-1]):
            name = f"wg{os.getpid()}-{host.number}"
            self._sockets.append(Path("/var/run/wireguard", f"{name}.sock"))
            host.start("wireguard-go", "-f", name, log="wireguard.log")
            for _ in range(200):
                if self._sockets[-1].exists():
                    break
                time.sleep(0.02)
            private = host.rundir / "wireguard.key"
            private.write_bytes(
                base64.b64encode(keys[host.number].private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
            )
            public = base64.b64encode(keys[peer.number].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
            host.run("wg", "set", name, "private-key", str(private), "listen-port", "51820", "peer", public,
                     "endpoint", f"{peer.plain}:51820", "allowed-ips", f"{peer.secure}/32")  # fmt: skip
            host.run("ip", "link", "set", name, "mtu", str(WIREGUARD_MTU), "up")
            host.run("ip", "route", "replace", f"{peer.secure}/32", "dev", name, "src", host.secure)
        a, b = pair.hosts
        await_echo(a, b.secure, a.rundir / "wireguard.log")

    def close(self) -> None:
        for path in self._sockets:
            path.unlink(missing_ok=True)


class Tls:
    """A proxy at each end (bench/tls_proxy.c): plain TCP to the client's host, TLS 1.3 between the hosts."""

    def __init__(self, pair: Pair) -> None:
        a, b = pair.hosts
        program, certificate, key = (pair.directory / name for name in ("tls_proxy", "cert.pem", "key.pem"))
        source = Path(__file__).with_name("tls_proxy.c")
        run("gcc", "-O2", "-Wall", "-o", str(program), str(source), "-lssl", "-lcrypto", "-pthread")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=bench", "-keyout", str(key), "-out", str(certificate))  # fmt: skip
        b.start(str(program), "server", str(TLS_PORT), "127.0.0.1", str(PORT), str(certificate), str(key), log="tls.log")
        a.start(str(program), "client", str(TLS_PORT), b.plain, str(TLS_PORT), log="tls.log")
        for host in pair.hosts:
            for _ in range(200):
                if f":{TLS_PORT} " in host.run("ss", "-Hltn").stdout:
                    break
                time.sleep(0.02)
