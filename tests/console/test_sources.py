"""The console's sources: types, their own tests, and its table of algorithms held to the programs that train."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.algorithms import catalog

ROOT = Path(__file__).parents[2]
CONSOLE = ROOT / "console"
ALGORITHMS = json.loads((CONSOLE / "src/model/algorithms.json").read_text())


@pytest.mark.parametrize("script", ["check", "test"])
def test_npm(script):
    done = subprocess.run(["npm", "run", "--silent", script], cwd=CONSOLE, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (CONSOLE / "package-lock.json").read_text()


@pytest.mark.parametrize("entry", ALGORITHMS, ids=lambda entry: entry["id"])
def test_images_and_objectives_are_those_of_the_catalogue(entry):
    algorithm = catalog.find(entry["image"])
    assert algorithm.name == entry["id"]
    assert set(entry["repositories"]) == algorithm.repositories
    assert {objective["name"] for objective in entry["objectives"]} == {name for name, _ in algorithm.metrics}
    proposed = {each["name"]: each["tune"] for each in entry["hyperparameters"] if "tune" in each}
    assert proposed == {name: [float(low), float(high)] for name, (_, low, high, _) in algorithm.ranges.items()}


@pytest.fixture
def xgboost(monkeypatch):
    """The training program's own parser."""
    image = ROOT / "src/phalanx/algorithms/xgboost/image"
    monkeypatch.syspath_prepend(str(image))
    spec = importlib.util.spec_from_file_location("xgboost_hyperparameters", image / "hyperparameters.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "xgboost_hyperparameters", module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("contract", None)


def test_hyperparameters_of_xgboost_are_those_that_its_program_takes(xgboost):
    table = next(entry for entry in ALGORITHMS if entry["id"] == "xgboost")["hyperparameters"]
    assert {parameter["name"] for parameter in table} == set(xgboost._PARSERS)
    for parameter in table:
        parse = xgboost._PARSERS[parameter["name"]]
        for value in inside(parameter):
            parse(value)
        for value in outside(parameter):
            with pytest.raises(ValueError):
                parse(value)


def inside(parameter):
    """Values at the edges of a range that belong to it."""
    if parameter["kind"] == "Categorical":
        return parameter["choices"]
    if parameter["kind"] == "FreeText":
        return []
    edges = [parameter[side] for side in ("min", "max") if side in parameter and not parameter.get(f"open{side.title()}")]
    tuned = parameter.get("tune", [])
    return [str(value) for value in (*edges, *tuned)] + ([parameter["default"]] if "default" in parameter else [])


def outside(parameter):
    """Values just beyond its edges."""
    if parameter["kind"] == "Categorical":
        return ["no such choice"]
    if parameter["kind"] == "FreeText":
        return []
    whole = parameter["kind"] == "Integer"
    beyond = []
    for side, towards in (("min", -math.inf), ("max", math.inf)):
        if side in parameter:
            edge = parameter[side]
            step = edge + (1 if towards > 0 else -1) if whole else math.nextafter(edge, towards)
            beyond.append(edge if parameter.get(f"open{side.title()}") else step)
    return [str(value) for value in beyond] + ["many", *(["1.5"] if whole else [])]


def test_what_the_service_always_says_of_a_job_is_in_the_catalogues():
    texts = re.findall(r'^  "said\.\w+": (".*"),$', (CONSOLE / "src/i18n/en.ts").read_text(), re.MULTILINE)
    jobs = "\n".join(path.read_text() for path in (ROOT / "src/phalanx").rglob("*.py"))
    assert texts
    for text in texts:
        assert text in jobs
