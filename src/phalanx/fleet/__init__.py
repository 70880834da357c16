"""Where instances run: one contract, implemented for this host (`local`) and for several (`ray`)."""
