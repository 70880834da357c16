"""Programs of the SageMaker SDKs beside this file, each run in an environment of its own with what `phalanx env` prints."""

import json
import os
import re
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clients import environment

SDK_V2 = "sagemaker==2.257.7"
SDK_V3 = "sagemaker==3.27.0"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def started(phalanx, network, homes, programs):
    """Start all `programs` (what they require, by their names) at once: most of their time is spent between two looks at a job.

    `homes` makes a home directory for a name. Gives a function that waits for a program's end: what it printed, and its facts.
    """
    with ExitStack() as stack:
        running = {}
        for name, requirement in programs.items():
            home = homes(name)
            environ = {"PATH": os.defpath, "HOME": str(home), "PYTHONUNBUFFERED": "1", **phalanx.env}
            command = [environment(requirement) / "bin/python", Path(__file__).with_name(f"{name}.py")]
            command += [network["Subnets"][0], network["SecurityGroupIds"][0]]
            output = stack.enter_context((home / "printed").open("w+"))
            process = subprocess.Popen(command, env=environ, cwd=home, stdout=output, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.kill)
            running[name] = process, output

        def ended(name):
            process, output = running[name]
            code = process.wait(240)
            output.seek(0)
            text = COLOUR.sub("", output.read())
            assert code == 0, text
            facts = next(line for line in text.splitlines() if line.startswith("FACTS")).removeprefix("FACTS ")
            return text.partition("FACTS")[0], json.loads(facts)

        yield ended
