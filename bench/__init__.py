"""The benchmarks: each a ratio against its baseline, measured in the same run and in turns. `python -m bench` runs them."""
