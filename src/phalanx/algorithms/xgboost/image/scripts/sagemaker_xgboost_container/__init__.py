"""What scripts import from SageMaker's XGBoost image: `data_utils`, `distributed`, `checkpointing` and `encoder`."""
