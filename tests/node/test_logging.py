"""One JSON object a line, whoever speaks; and no secret in a traceback."""

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, threading
import structlog
from structlog.contextvars import bound_contextvars
from phalanx.node import logging as ours

ours.configure()
log = structlog.get_logger()

def fail():
    key = "se" + "cret"
    raise ValueError("two\\nlines")

with bound_contextvars(job="a", instance="algo-1"):
    log.info("said", seconds=0.5)
    logging.getLogger("botocore").warning("a library says %s", "this")
    try:
        fail()
    except ValueError:
        log.exception("failed")
thread = threading.Thread(target=fail, name="t")
thread.start()
thread.join()
fail()
"""


def said(**environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.stdout == ""
    return done.stderr


def test_every_line_is_an_object_with_its_job_and_instance():
    text = said()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == [
        "said",
        "a library says this",
        "failed",
        "a thread failed",
        "the process failed",
    ]
    assert all((line["job"], line["instance"]) == ("a", "algo-1") for line in lines[:3])
    assert all("job" not in line for line in lines[3:])
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert [line["level"] for line in lines] == ["info", "warning", "error", "error", "critical"]
    assert all(line["exception"].endswith("ValueError: two\nlines") for line in lines[2:])
    assert "secret" not in text


def test_a_person_may_ask_for_text():
    text = said(PHALANX_LOG_FORMAT="text")
    assert "job=a" in text
    assert not text.startswith("{")
    assert "secret" not in text
