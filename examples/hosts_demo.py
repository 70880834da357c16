"""The jobs of encrypted_training.py on two simulated hosts: `make demo FLEET=ray`."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleet.lan import PHALANX, Lan


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="phalanx-") as directory, Lan(Path(directory)) as lan:
        data_dir = lan.directory / "control"
        data_dir.mkdir()
        with socket.create_server((lan.address(1), 0)) as probe:
            port = str(probe.getsockname()[1])
        log = lan.directory / "serve.log"
        serve = [PHALANX, "serve", "--fleet", "ray", "--spread", "--host", lan.address(1), "--port", port]
        print(f"Phalanx starts in {data_dir} on {lan.address(1)} port {port} …", flush=True)
        with log.open("wb") as output:
            service = subprocess.Popen([*serve, "--data-dir", str(data_dir)], stderr=output)
        try:
            until(service, log, "phalanx ready")
            for _ in range(2):
                machine = lan.machine()
                invite = [PHALANX, "host", "invite", machine.address, str(machine.invitation)]
                subprocess.run([*invite, "--data-dir", str(data_dir)], check=True)
                machine.join()
                until(service, log, f'"{machine.address}".*"host joined"')
                print(f"Host {machine.name} has joined as {machine.address}", flush=True)
            status = train(data_dir, lan)
            if status:
                print(log.read_text()[-4000:], file=sys.stderr)
            for machine in lan.machines:
                machine.leave()
            return status
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()


def train(data_dir: Path, lan: Lan) -> int:
    shown = subprocess.run([PHALANX, "env", "--data-dir", str(data_dir)], check=True, capture_output=True, text=True).stdout
    env = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", shown, re.MULTILINE))
    host = lan.machines[0]
    env["PHALANX_CAPTURE"] = f"nsenter -t {host.process.pid} -m -n env PHALANX_DATA_DIR={host.data_dir} {PHALANX} capture"
    env["PHALANX_DATA_DIR"] = str(data_dir)
    return subprocess.run([sys.executable, "examples/encrypted_training.py"], check=False, env={**os.environ, **env}).returncode


def until(service: subprocess.Popen, log: Path, words: str) -> None:
    deadline = time.monotonic() + 120
    while not re.search(words, log.read_text()):
        if service.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"waited for {words}:\n{log.read_text()}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
