"""The operation of Amazon SageMaker Metrics that Phalanx serves."""
