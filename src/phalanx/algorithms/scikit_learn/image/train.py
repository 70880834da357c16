"""A script of the user's own; there is no algorithm without one."""

from __future__ import annotations

import sys

import script
from contract import hyperparameters, write_failure


def main() -> None:
    """Run the script; ends the process."""
    if "sagemaker_program" not in hyperparameters():
        write_failure("Give the job a script, as the SageMaker SDK's SKLearn(entry_point=…) does: this image has no algorithm")
        sys.exit(1)
    script.main()


if __name__ == "__main__":
    main()
