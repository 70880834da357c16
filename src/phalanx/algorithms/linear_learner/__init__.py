"""Linear learner: what the control plane must know of it. The training program itself is in `image`."""

_LINE = r"#quality_metric: host=\S+, "
_SCORES = {
    "absolute_loss": "absolute_loss <loss>",
    "binary_classification_accuracy": "binary_classification_accuracy <score>",
    "binary_f_beta": r"binary_f_\S+ <score>",
    "dcg": "dcg <score>",
    "macro_f_beta": r"macro_f_\S+ <score>",
    "macro_precision": "macro_precision <score>",
    "macro_recall": "macro_recall <score>",
    "mse": "mse <loss>",
    "multiclass_accuracy": "multiclass_accuracy <score>",
    "multiclass_top_k_accuracy": r"multiclass_top_k_accuracy_\S+ <score>",
    "precision": "precision <score>",
    "recall": "recall <score>",
    "roc_auc_score": "roc_auc_score <score>",
}

METRICS = (
    *(
        (f"{channel}:{name}", rf"{_LINE}{channel} {said}=(\S+)")
        for channel in ("train", "validation", "test")
        for name, said in _SCORES.items()
    ),
    *(
        (f"{channel}:objective_loss", rf"{_LINE}epoch=\S+, {channel} \S+_objective <loss>=(\S+)")
        for channel in ("train", "validation")
    ),
    *(
        (f"{channel}:objective_loss:final", rf"{_LINE}{channel} \S+_objective <loss>=(\S+)")
        for channel in ("train", "validation")
    ),
    ("test:objective_loss", rf"{_LINE}test \S+_objective <loss>=(\S+)"),
    ("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
    ("train:throughput", r"#throughput_metric: host=\S+, train throughput=(\S+) records/second"),
)
"""The metric definitions that SageMaker gives jobs of this algorithm."""
