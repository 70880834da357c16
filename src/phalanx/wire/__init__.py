"""AWS protocols, SigV4 and errors, driven by botocore's service models; knows no operation's meaning."""
