"""A registry of the test's own on this host (Debian's docker-registry), without a certificate."""

import contextlib
import os
import socket
import subprocess
import time


@contextlib.contextmanager
def registry(directory):
    """Its address, and the directory where it keeps its blobs. What podman is started meanwhile takes it as it is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address, store = f"127.0.0.1:{port}", directory / "registry"
    configuration = directory / "registry.yml"
    configuration.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {store}\nhttp:\n  addr: {address}\n")
    # As an administrator says that a registry has no certificate (containers-registries.conf(5)).
    registries = directory / "registries.conf"
    registries.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    process = subprocess.Popen(
        ["docker-registry", "serve", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.environ["CONTAINERS_REGISTRIES_CONF"] = str(registries)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield address, store
    finally:
        del os.environ["CONTAINERS_REGISTRIES_CONF"]
        process.kill()
        process.wait()
