"""What Phalanx serves that AWS has no operation for: the proof that a job's traffic was encrypted."""
