"""PyTorch: the layer that all images with it share."""
