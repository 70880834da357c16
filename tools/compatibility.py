"""Writes docs/compatibility.md from the tables that the service itself works by: `python tools/compatibility.py`."""

from __future__ import annotations

import json
from pathlib import Path

from phalanx.services.iam.service import service as iam
from phalanx.services.logs.service import service as logs
from phalanx.services.sagemaker.fields import FIELDS, Field, Support
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sts.service import service as sts

PAGE = Path(__file__).parents[1] / "docs/compatibility.md"

OPERATIONS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "Training jobs",
        (
            "CreateTrainingJob",
            "DescribeTrainingJob",
            "ListTrainingJobs",
            "StopTrainingJob",
            "UpdateTrainingJob",
            "DeleteTrainingJob",
        ),
        "",
    ),
    ("Tags", ("AddTags", "ListTags", "DeleteTags"), ""),
    ("Search", ("Search", "GetSearchSuggestions"), ""),
    (
        "Hyperparameter tuning",
        (
            "CreateHyperParameterTuningJob",
            "DescribeHyperParameterTuningJob",
            "ListHyperParameterTuningJobs",
            "StopHyperParameterTuningJob",
            "DeleteHyperParameterTuningJob",
            "ListTrainingJobsForHyperParameterTuningJob",
        ),
        "tuning is not built yet",
    ),
    (
        "Algorithms",
        ("CreateAlgorithm", "DescribeAlgorithm", "ListAlgorithms", "DeleteAlgorithm"),
        "give AlgorithmSpecification.TrainingImage",
    ),
    (
        "Experiments",
        (
            *(
                f"{verb}{noun}"
                for noun in ("Experiment", "Trial", "TrialComponent")
                for verb in ("Create", "Describe", "Update")
            ),
            *(f"Delete{noun}" for noun in ("Experiment", "Trial", "TrialComponent")),
            "ListExperiments",
            "ListTrials",
            "ListTrialComponents",
            "AssociateTrialComponent",
            "DisassociateTrialComponent",
        ),
        "experiments are not built yet",
    ),
)
"""The operations of SageMaker that concern training, by group, and why those of a group are not served that are not."""

NOTES = {
    "ListTrainingJobs": "every filter applies before the page is cut, so that pages are full",
    "UpdateTrainingJob": 'takes what means "off"; profiler, warm pools and remote debugging are refused',
    "DeleteTrainingJob": "transitions, tags, logs and evidence go with the job; artifacts in S3 stay",
    "Search": "training jobs; other resources are not there, so that nothing of them is found",
}
WORDS = {Support.HONOURED: "works", Support.NO_EFFECT: "accepted, no effect", Support.REFUSED: "refused"}


def page() -> str:
    """The page as it should be."""
    served = {service.name: set(service.handlers) for service in (sagemaker(None, None), logs(None), sts(), iam())}  # type: ignore[arg-type]
    lines = [
        "# Compatibility",
        "",
        "<!-- Written by tools/compatibility.py from the service's own tables; a test holds it to them. -->",
        "",
        "Every request is checked against the service model that botocore ships. What Phalanx does not do it refuses with a",
        "`ValidationException` that names the member and the reason; nothing is dropped silently. EC2's operations are in",
        "[ec2.md](ec2.md).",
        "",
        "## SageMaker operations",
        "",
        "| operation | | |",
        "|---|---|---|",
    ]
    for _, operations, reason in OPERATIONS:
        for operation in operations:
            works = operation in served["sagemaker"]
            lines.append(
                f"| `{operation}` | {'works' if works else 'refused'} | {NOTES.get(operation, '') if works else reason} |"
            )
    lines += [
        "",
        "Any other operation of SageMaker is answered with `UnknownOperationException`.",
        "",
        "## Operations of other services",
        "",
        "| service | works |",
        "|---|---|",
    ]
    for name in ("logs", "sts", "iam"):
        names = ", ".join(f"`{operation}`" for operation in sorted(served[name]))
        lines.append(f"| {name} | {names or 'nothing yet; the SDKs go on without it'} |")
    lines += [
        "",
        "## Members of CreateTrainingJob",
        "",
        "| member | | values taken | |",
        "|---|---|---|---|",
        *(_row(field) for field in FIELDS),
        "",
        "A member that is not in this table, of a newer service model, is refused.",
        "",
    ]
    return "\n".join(lines)


def _row(field: Field) -> str:
    values = "any" if field.values is None else ", ".join(f"`{json.dumps(value)}`" for value in field.values) or "none"
    return f"| `{field.path}` | {WORDS[field.support]} | {values} | {field.note} |"


if __name__ == "__main__":
    PAGE.write_text(page())
