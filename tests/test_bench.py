"""The benchmarks' own parts that follow what they measure."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOAD = """
import json, sys
from bench import api
with api._server([sys.executable, "-m", "bench.api", sys.argv[1]]) as port:
    print(json.dumps(api._load(port, "job", 0.5)))
"""


def test_the_api_is_measured_by_requests_that_are_answered(tmp_path):
    """The server there has a control room of its own, which must have all that handlers ask of one."""
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) > 0
