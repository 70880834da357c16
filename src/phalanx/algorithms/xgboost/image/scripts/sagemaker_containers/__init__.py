"""What `sagemaker_training` was called once, for scripts that still do."""

from sagemaker_training import entry_point

__all__ = ["entry_point"]
