"""The console's sources: types, their own tests, and its table of algorithms held to the programs that train."""

import ast
import contextlib
import importlib
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.algorithms import catalog
from phalanx.algorithms.xgboost import ALIASES
from phalanx.jobs import manager, record, runner, traffic
from phalanx.jobs.instance_types import CATALOGUE

ROOT = Path(__file__).parents[2]
CONSOLE = ROOT / "console"
ALGORITHMS = json.loads((CONSOLE / "src/model/algorithms.json").read_text())


@pytest.mark.parametrize("script", ["check", "test"])
def test_npm(script):
    done = subprocess.run(["npm", "run", "--silent", script], cwd=CONSOLE, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (CONSOLE / "package-lock.json").read_text()


def test_instance_types_are_those_of_the_catalogue_that_the_sdk_knows():
    code = 'console.log(JSON.stringify(Object.values(require("@aws-sdk/client-sagemaker").TrainingInstanceType)))'
    known = json.loads(subprocess.run(["node", "-e", code], cwd=CONSOLE, check=True, capture_output=True).stdout)
    form = (CONSOLE / "src/components/form.tsx").read_text()
    (left_out,) = re.findall(r"Object\.values\(TrainingInstanceType\)\.filter\(\(type\) => !/(.+?)/\.test\(type\)\);", form)
    assert {name for name in known if not re.search(left_out, name)} == CATALOGUE.keys() & set(known)
    assert any(CATALOGUE[name].gpus for name in known if name in CATALOGUE)


@pytest.fixture(params=ALGORITHMS, ids=lambda entry: entry["id"])
def entry(request):
    """An algorithm as the console has it."""
    return request.param


def test_images_and_objectives_are_those_of_the_catalogue(entry):
    algorithm = catalog.find(entry["image"])
    assert algorithm.name == entry["id"]
    assert set(entry["repositories"]) == algorithm.repositories
    metrics = {name for name, _ in algorithm.metrics if not name.endswith((":progress", ":throughput"))}
    assert {objective["name"] for objective in entry["objectives"]} == metrics
    proposed = {each["name"]: each["tune"] for each in entry["hyperparameters"] if "tune" in each}
    for name, (_, low, high, _) in algorithm.ranges.items():
        assert proposed[ALIASES.get(name, name)] == [float(low), float(high)], name


@pytest.fixture
def parsers(entry, monkeypatch):
    """Those of the training program itself."""
    image = ROOT / "src/phalanx/algorithms" / entry["id"].replace("-", "_") / "image"
    modules = [path.stem for path in image.glob("*.py")]
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(image))
    yield importlib.import_module("hyperparameters")._PARSERS
    for name in modules:
        sys.modules.pop(name, None)


def test_hyperparameters_are_those_that_the_training_program_takes(entry, parsers):
    table = entry["hyperparameters"]
    # Of two names of one it offers the first.
    aliases = ALIASES if entry["id"] == "xgboost" else {}
    assert {parameter["name"] for parameter in table} == set(parsers) - set(aliases)
    for parameter in table:
        parse = parsers[parameter["name"]]
        for value in inside(parameter):
            parse(value)
        for value in outside(parameter):
            with pytest.raises(ValueError):
                parse(value)


def inside(parameter):
    """Values at the edges of a range that belong to it, and others that the form offers."""
    offered = [*parameter.get("choices", []), *parameter.get("words", [])]
    if "default" in parameter:
        offered.append(parameter["default"])
    if parameter["kind"] in ("Categorical", "FreeText"):
        return offered
    edges = [parameter[side] for side in ("min", "max") if side in parameter and not parameter.get(f"open{side.title()}")]
    tuned = parameter.get("tune", [])
    return [str(value) for value in (*edges, *tuned)] + offered


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


WRITERS = {"transition": (2, 3), "_announce": (0, 1), "Outcome": (1, 2)}
"""Functions that write down a secondary status of a job and its message: which of their arguments these are."""


def texts(expression, module, assigned):
    """What an expression of a module may be, with {} for what nobody knows before."""
    match expression:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp():
            return texts(expression.body, module, assigned) + texts(expression.orelse, module, assigned)
        case ast.JoinedStr():
            return ["".join(part.value if isinstance(part, ast.Constant) else "{}" for part in expression.values)]
        case ast.BinOp():
            return [
                left + right
                for left in texts(expression.left, module, assigned)
                for right in texts(expression.right, module, assigned)
            ]
        case ast.Name(id=name) if name in assigned:
            return [text for value in assigned[name] for text in texts(value, module, {})]
        case ast.Name() | ast.Attribute():
            with contextlib.suppress(NameError, AttributeError):
                return [eval(ast.unparse(expression), vars(module))]
    return ["{}"]


@pytest.fixture(scope="module")
def transitions():
    """The secondary statuses and the messages that the service's own sources write into SecondaryStatusTransitions."""
    statuses, messages = {"Starting"}, {"Starting the training job"}
    for module in (record, runner, traffic, manager):
        tree = ast.parse(inspect.getsource(module))
        assigned = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned.setdefault(node.targets[0].id, []).append(node.value)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            written = WRITERS.get(getattr(call.func, "attr", getattr(call.func, "id", None)))
            for found, place in zip((statuses, messages), written or (), strict=False):
                found.update(texts(call.args[place], module, assigned))
    return statuses - {"{}"}, messages - {"{}"}


def test_every_status_of_a_job_has_a_look(transitions):
    statuses, _ = transitions
    assert {"Starting", "Restarting", "Interrupted", "MaxWaitTimeExceeded"} <= statuses
    looks = re.findall(r"^  (\w+): \[", (CONSOLE / "src/components/Status.tsx").read_text(), re.MULTILINE)
    assert statuses <= set(looks)


def test_what_the_service_says_of_a_job_is_in_the_catalogues(transitions):
    _, messages = transitions
    catalogue = (CONSOLE / "src/i18n/en.ts").read_text()
    known = re.findall(r'^  "said\.\w+": "(.*)",$', catalogue, re.MULTILINE)
    assert {re.sub(r"\{\w+\}", "{}", text) for text in known} == messages
