"""What several rooms need of Linux, and of no other room: files put in their place. Knows nothing of Phalanx."""
