"""`GET /metrics`: for whoever has the token alone, and never hanging."""

import json
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from sqlalchemy.exc import OperationalError
from starlette.requests import Request

from phalanx.cli import metrics
from phalanx.cli.metrics import Metrics
from phalanx.jobs.census import Measured, Stored
from phalanx.node.messages import Capacity

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
STORED = Stored({"Completed": 3}, {"Training": 1}, {}, 2, 61.5, 0)


@pytest.fixture
def opened(tmp_path):
    made = []

    def opened(stored=lambda: STORED, measured=lambda: Measured(Capacity(2, 1 << 30), instances={"running": 2})):
        made.append(Metrics(tmp_path, stored, measured))
        made[0].open()
        return made[0]

    yield opened
    made[0].close()


def scrape(found, authorization=None, accept=""):
    headers = {"accept": accept, **({} if authorization is None else {"authorization": authorization})}
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    return found.route().endpoint(Request(scope))


def samples(answer, parse=plain):
    assert answer.status_code == 200
    families = parse(answer.body.decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_without_the_token_nothing_is_told(opened, tmp_path):
    found = opened()
    file = tmp_path / "metrics.token"
    secret = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(secret) > 40
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x" + secret,
        f"Bearer {secret[:-1]}",
        f"Basic {secret}",
        secret,
        "Bearer é",
    ):
        answer = scrape(found, wrong)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert b"phalanx_" not in answer.body
    assert scrape(found, f"Bearer {secret}").status_code == 200
    # The next start keeps it: Prometheus holds a copy.
    assert metrics.token(file) == secret


@pytest.mark.parametrize("left", [b"", b"\n", b"3q2-7wECAwQFBgc", b"\0" * 43, b"\xff" * 43])
def test_a_token_that_is_not_whole_lets_nobody_in_and_is_made_anew(opened, tmp_path, left):
    """As a loss of power, or a full disk, left it at the first start of an earlier version."""
    file = tmp_path / "metrics.token"
    file.write_bytes(left)
    found = opened()
    for wrong in ("Bearer", "Bearer ", f"Bearer {left.decode('latin-1')}"):
        assert scrape(found, wrong).status_code == 401
    assert scrape(found, f"Bearer {file.read_text()}").status_code == 200
    assert len(file.read_text()) > 40


def test_a_token_is_on_the_disk_before_it_is_asked_for_and_an_operators_own_stays(tmp_path, synced):
    metrics.token(tmp_path / "metrics.token")
    assert (tmp_path / "metrics.token").stat().st_ino in synced
    (tmp_path / "own").write_text(f"{'0123456789abcdef' * 4}\n")
    assert metrics.token(tmp_path / "own") == "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("accept", "parse"), [("text/plain", plain), ("application/openmetrics-text;version=1.0.0", openmetrics)]
)
def test_a_scrape_parses_in_either_format(opened, tmp_path, accept, parse):
    found = opened()
    told = samples(scrape(found, f"Bearer {(tmp_path / 'metrics.token').read_text()}", accept), parse)
    assert told["phalanx_training_jobs", "Completed"] == 3
    assert told["phalanx_queue_jobs",] == 2
    assert told["phalanx_queue_oldest_seconds",] == 61.5
    assert told["phalanx_instances", "running"] == 2
    assert told["phalanx_instances", "prepared"] == 0
    assert told["phalanx_fleet_up",] == told["phalanx_census_fresh",] == told["phalanx_store_up",] == 1
    assert not any(name.endswith("_created") for name, *_ in told)


def test_neither_a_fleet_that_hangs_nor_a_store_that_is_away_keeps_a_scrape(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "LOOK_SECONDS", 0.05)
    let_go = threading.Event()

    def hang():
        let_go.wait()
        return Measured(Capacity(2, 1 << 30))

    def away():
        raise OperationalError("", {}, Exception())

    found = opened(away, hang)
    authorization = f"Bearer {(tmp_path / 'metrics.token').read_text()}"
    threads = threading.active_count()
    for _ in range(5):
        told = samples(scrape(found, authorization))
        assert told["phalanx_fleet_up",] == told["phalanx_census_fresh",] == told["phalanx_store_up",] == 0
    assert threading.active_count() <= threads  # those of earlier tests may end meanwhile
    let_go.set()
    monkeypatch.setattr(metrics, "LOOK_SECONDS", 30)
    assert samples(scrape(found, authorization))["phalanx_fleet_up",] == 1


def test_dashboard_and_alerts_ask_for_metrics_and_labels_that_there_are(opened, tmp_path):
    import phalanx.cli.door
    import phalanx.cli.serve  # noqa: F401

    text = scrape(opened(), f"Bearer {(tmp_path / 'metrics.token').read_text()}").body.decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    there = {
        name + end for name, kind in kinds.items() for end in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }
    asked = list(expressions(json.loads((DEPLOY / "grafana" / "phalanx.json").read_text())))
    asked += expressions(yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text()))
    assert len(asked) > 40
    for expression in asked:
        names = set(re.findall(r"\b(?:phalanx|process|python)_\w+", expression))
        assert names <= there, expression
        assert names or "up{" in expression, expression
    # Each that is made for people to look at is looked at by some.
    unasked = {name for name in kinds if name.startswith("phalanx_")} - {
        name for each in asked for asked_name in re.findall(r"phalanx_\w+", each) for name in (asked_name, asked_name[:-7])
    }
    assert unasked == {"phalanx_training_jobs", "phalanx_census_fresh", "phalanx_fleet_cpus"}


def test_what_alerts_wait_for_is_at_zero_before_it_ever_happens():
    """increase() and rate() see nothing in a series whose first sample is the event itself."""
    # A process of its own: the counters of this one have been at work.
    fresh = "import phalanx.cli.serve, phalanx.cli.door, prometheus_client as p; print(p.generate_latest().decode())"
    text = subprocess.run([sys.executable, "-c", fresh], capture_output=True, text=True, check=True).stdout
    there = [(each.name, each.labels, each.value) for family in plain(text) for each in family.samples]
    awaited = 0
    for expression in expressions(yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())):
        for name, selector in re.findall(r"(?:increase|rate)\((phalanx_\w+)(?:\{(.*?)\})?\[", expression):
            for label, values in re.findall(r'(\w+)=~?"(.*?)"', selector) or [(None, "")]:
                for value in values.split("|"):
                    found = {now for metric, labels, now in there if metric == name and labels.get(label, "") == value}
                    assert found == {0}, (name, label, value)
                    awaited += 1
    assert awaited > 8


def expressions(value):
    """What is asked of Prometheus, wherever in a file."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if key in ("expr", "query") and isinstance(each, str) and each != "prometheus":
            yield each
        elif isinstance(each, dict | list):
            yield from expressions(each)
