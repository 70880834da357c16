"""A job's life: preflight, state machine, evidence."""
