"""The operations of Amazon CloudWatch Logs that Phalanx serves."""
