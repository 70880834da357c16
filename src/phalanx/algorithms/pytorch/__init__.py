"""PyTorch's framework image: script mode by the real SageMaker training toolkit, with torchrun, DDP over Gloo, and MPI."""
