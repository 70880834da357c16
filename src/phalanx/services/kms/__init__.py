"""The operations of AWS Key Management Service that Phalanx serves."""
