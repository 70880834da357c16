"""What `sagemaker_training` was called once, for scripts that still do."""

from sagemaker_training import entry_point
from sagemaker_training.environment import Environment

__all__ = ["entry_point", "training_env"]


def training_env() -> Environment:
    """The environment of the job that the script trains in."""
    return Environment()
