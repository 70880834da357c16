"""One folder per AWS service: handlers that translate AWS operations into calls on `jobs` and `store`."""
