"""DeepAR: what the control plane must know of it. The training program itself is in `image`."""

METRICS = (
    ("test:RMSE", r"#quality_metric: host=\S+, test RMSE <loss>=(\S+)"),
    ("test:mean_wQuantileLoss", r"#quality_metric: host=\S+, test mean_wQuantileLoss <loss>=(\S+)"),
    ("train:final_loss", r"#quality_metric: host=\S+, train final_loss <loss>=(\S+)"),
    ("train:loss", r"#quality_metric: host=\S+, epoch=\S+, train loss <loss>=(\S+)"),
    ("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
    ("train:throughput", r"#throughput_metric: host=\S+, train throughput=(\S+) records/second"),
)
"""The metric definitions that SageMaker gives jobs of this algorithm."""
