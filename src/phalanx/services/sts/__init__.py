"""The operations of AWS Security Token Service that Phalanx serves."""
