"""The operations of Amazon CloudWatch that Phalanx serves."""
