"""The operations of Amazon SageMaker that Phalanx serves."""
