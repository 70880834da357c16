"""What goes wrong with the engine is told as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.ipsec.engine.process import SETTINGS
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.userspace import EnginePlane


def test_an_engine_that_cannot_be_started_is_not_said_to_have_counted(tmp_path: Path) -> None:
    in_the_way = tmp_path / f"{SETTINGS}.new"
    in_the_way.mkdir()
    plane = EnginePlane("phxt-never-was", tmp_path, "192.0.2.1", ["192.0.2.2"], "eth0")
    with pytest.raises(MeshError, match=f"^the engine lacks something of its host: .*{in_the_way}"):
        plane.start()
