"""Where instances run: one contract, implemented for this host (`local`)."""
