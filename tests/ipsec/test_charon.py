"""What is kept of an IKE daemon's log: no daemon is there."""

from __future__ import annotations

from pathlib import Path

from phalanx.ipsec.charon import LOG_LIMIT, Charon


def test_a_long_log_keeps_its_last_lines_and_their_places(tmp_path: Path) -> None:
    daemon, file = Charon("phxt-never-was", tmp_path), tmp_path / "charon.log"
    daemon.trim_log()
    line = b"2026-01-01T00:00:00.000 01[IKE] <algo-2|1> %07d\n"
    fits = LOG_LIMIT // len(line % 0)
    with file.open("ab", buffering=0) as log:  # as daemons have it
        log.write(b"".join(line % number for number in range(fits)))
        daemon.trim_log()
        assert len(daemon.said("algo-2", 0)) == fits
        mark = daemon.log_size()
        log.write(b"".join(line % number for number in range(fits, fits + 100)))
        for _ in range(2):
            daemon.trim_log()
            assert LOG_LIMIT // 2 - len(line % 0) <= file.stat().st_size <= LOG_LIMIT // 2
        assert daemon.said("algo-2", mark) == [f"{number:07}" for number in range(fits, fits + 100)]
        later = daemon.log_size()
        assert later == mark + 100 * len(line % 0)
        log.write(line % 7)
    assert daemon.said("algo-2", later) == ["0000007"]
    assert daemon.said("algo-2", 0)[-102:-100] == [f"{fits - 1:07}", f"{fits:07}"]
