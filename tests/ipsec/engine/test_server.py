"""What the engine's control side tells whoever asks."""

import json
import socket
import threading
from types import SimpleNamespace

from phalanx.ipsec.engine import server as module
from phalanx.ipsec.engine.server import Server, listen

REPORT = {"associations": [{"spi": number, "text": "x" * 700} for number in range(2000)]}
"""As long as that of a thousand peers."""


def asked(tmp_path, read):
    """What `read` has of a report through a socket that keeps little; what was logged."""
    told = []
    serving = Server.__new__(Server)
    serving._dispatcher = SimpleNamespace(tables=SimpleNamespace(report=lambda: REPORT))
    serving._settings, serving._log = {}, told.append
    path = tmp_path / "control"
    with listen(path, socket.SOCK_STREAM) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        thread = threading.Thread(target=serving._report, args=(listener,))
        thread.start()
        found = read(client)
        thread.join()
    return found, told


def everything(client):
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_a_report_is_handed_over_whole_whatever_the_kernel_keeps_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REPORT_MAX", 4096)
    found, told = asked(tmp_path, everything)
    assert len(json.loads(found)["report"]["associations"]) == 2000
    assert told == []


def test_who_does_not_read_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REPORT_MAX", 4096)
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.05)
    _, told = asked(tmp_path, lambda _client: None)
    assert "could not be handed over" in told[0]
