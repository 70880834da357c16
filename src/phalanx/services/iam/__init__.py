"""The operations of AWS Identity and Access Management that Phalanx serves."""
