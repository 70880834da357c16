"""Images and containers on one host."""
