"""The SageMaker training toolkit, which runs a user's script: the layer of images that are not PyTorch's."""
