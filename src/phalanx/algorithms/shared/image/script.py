"""Script mode: a program of the user's own in place of the algorithm, run by SageMaker's training toolkit."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

from sagemaker_training import entry_point, environment
from sagemaker_training.cli import train

_MODULES = Path(__file__).with_name("scripts")
"""What scripts may import, if anything; the image's own modules have names that theirs may have."""


def main() -> None:
    """Run the program; ends the process, with the cause in /opt/ml/output/failure where it fails."""
    # As any program begins, and not as the algorithm does.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    gc.enable()
    os.environ["SAGEMAKER_TRAINING_MODULE"] = f"{__name__}:run"
    # The toolkit hands its own on.
    sys.path[0] = str(_MODULES)
    train.main()


def run() -> None:
    """What the toolkit calls. As it would run a program by itself, but with the program's last words for the failure."""
    here = environment.Environment()
    entry_point.run(here.module_dir, here.user_entry_point, here.to_cmd_args(), here.to_env_vars(), capture_error=True)
