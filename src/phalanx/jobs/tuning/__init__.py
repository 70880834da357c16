"""Hyperparameter tuning jobs: which training jobs they start, when they stop one, and when they are done."""
