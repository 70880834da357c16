"""The SageMaker training toolkit, which runs a user's script: a layer of each image that takes one."""
