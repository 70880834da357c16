"""Built-in training images; they use the container contract alone."""
