"""Tables and migrations; everything that Phalanx has acknowledged."""
