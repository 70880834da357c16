"""The house's rule: one way down, no arrow up (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "phalanx"

MAY_IMPORT = {
    "cli": {
        "identity",
        "wire",
        "services",
        "console",
        "jobs",
        "store",
        "fleet",
        "node",
        "network",
        "ipsec",
        "runtime",
        "data",
        "algorithms",
    },
    "console": set(),
    "services": {"wire", "identity", "jobs", "store"},
    "identity": {"wire", "store"},
    "wire": set(),
    "jobs": {"store", "fleet", "node", "network", "ipsec", "runtime", "data", "algorithms"},
    "store": set(),
    "fleet": {"node", "network", "data"},
    "node": {"network", "ipsec", "runtime", "data", "algorithms"},
    "network": set(),
    "ipsec": set(),
    "runtime": set(),
    "data": set(),
    "algorithms": set(),
    "linux": set(),
}
FLOOR = {"linux"}
"""What every room may use, since it uses none (docs/decisions/0042-a-floor-under-the-rooms.md)."""


MESSAGES = {
    "data.envelope",
    "data.metrics",
    "data.model",
    "data.objects",
    "network.model",
    "ipsec.model",
    "ipsec.pki",
    "runtime.model",
    "node.messages",
    "algorithms.catalog",
}
"""What `jobs` uses of the rooms of a node: what it says to them, and what the control plane does itself."""


def modules(source: str):
    """The modules that a program imports of Phalanx, without `phalanx.`: `room`, or `room.module` and so on."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: an import says from where, as `from phalanx.room.module import …`"
            parent = f"{node.module}."
            for name in node.names:
                path = f"{parent}{name.name}".split(".")
                if path[0] == "phalanx" and is_module(path):
                    yield ".".join(path[1:])
                elif path[0] == "phalanx" and len(path) > 2:
                    yield ".".join(path[1:-1])
        elif isinstance(node, ast.Import):
            yield from (name.name.partition(".")[2] for name in node.names if name.name.startswith("phalanx."))


def is_module(path: list[str]) -> bool:
    """Whether an imported name is a module or a room, and nothing that a module has."""
    place = SOURCE.parent.joinpath(*path)
    return place.is_dir() or place.with_suffix(".py").exists()


def programs(room: str):
    """A room's own; those in `image` run inside training images."""
    for path in (SOURCE / room).rglob("*.py"):
        if "image" not in path.relative_to(SOURCE).parts:
            yield path


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_lies_below(room):
    for path in programs(room):
        targets = {module.split(".")[0] for module in modules(path.read_text())}
        wrong = targets - {room} - MAY_IMPORT[room] - FLOOR
        assert not wrong, f"{path.relative_to(SOURCE)} reaches up or across to {sorted(wrong)}"


def test_jobs_speak_to_the_rooms_of_a_node_in_messages():
    node = MAY_IMPORT["node"] | {"node"}
    for path in programs("jobs"):
        wrong = {module for module in modules(path.read_text()) if module.split(".")[0] in node} - MESSAGES
        assert not wrong, f"{path.relative_to(SOURCE)} reaches into {sorted(wrong)}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from phalanx import services", ["services"]),
        ("from phalanx import __version__", []),
        ("from phalanx.jobs import plan, preflight", ["jobs.plan", "jobs.preflight"]),
        ("from phalanx.jobs.plan import Plan", ["jobs.plan"]),
        ("def later():\n    import phalanx.node.agent", ["node.agent"]),
        ("import phalanx_else, os\nfrom os import path", []),
    ],
)
def test_every_way_to_import_is_seen(source, found):
    assert list(modules(source)) == found


@pytest.mark.parametrize("source", ["from .. import jobs", "from ..jobs.plan import Plan", "from . import plan"])
def test_an_import_that_does_not_say_from_where_is_refused(source):
    with pytest.raises(AssertionError, match="says from where"):
        list(modules(source))


def test_every_room_is_listed():
    assert {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(MAY_IMPORT)


def test_algorithms_use_the_container_contract_alone():
    for path in (SOURCE / "algorithms").rglob("image/**/*.py"):
        assert "phalanx" not in path.read_text().replace("Phalanx", "")
