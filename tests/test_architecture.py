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
}


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("phalanx."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("phalanx."))


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_lies_below(room):
    for path in (SOURCE / room).rglob("*.py"):
        if "image" in path.relative_to(SOURCE).parts:
            continue  # programs that run inside training images
        wrong = {target for target in imports(path) if target != room} - MAY_IMPORT[room]
        assert not wrong, f"{path.relative_to(SOURCE)} reaches up or across to {sorted(wrong)}"


def test_every_room_is_listed():
    assert {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(MAY_IMPORT)


def test_algorithms_use_the_container_contract_alone():
    for path in (SOURCE / "algorithms").rglob("image/**/*.py"):
        assert "phalanx" not in path.read_text().replace("Phalanx", "")
