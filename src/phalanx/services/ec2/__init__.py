"""The operations of Amazon EC2 that Phalanx serves."""
