"""What goes into and comes out of an instance: channels, artifacts, the /opt/ml contract, logs, and the S3 server."""
