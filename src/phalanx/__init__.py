"""Phalanx: self-hosted training that speaks Amazon SageMaker's API and encrypts all traffic between a job's instances."""

__version__ = "0.1.0"
