"""Writes docs/compatibility.md from the tables that the service itself works by: `python tools/compatibility.py`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from phalanx.services.cloudwatch.service import service as cloudwatch
from phalanx.services.iam.service import service as iam
from phalanx.services.kms.service import service as kms
from phalanx.services.logs.service import service as logs
from phalanx.services.phalanx.service import service as phalanx
from phalanx.services.sagemaker.fields import FIELDS, Field, Support
from phalanx.services.sagemaker.service import service as sagemaker
from phalanx.services.sagemaker_metrics.service import service as sagemaker_metrics
from phalanx.services.sts.service import service as sts
from phalanx.wire.service import Service

PAGE = Path(__file__).parents[1] / "docs/compatibility.md"

OPERATIONS = (
    *("CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs"),
    *("StopTrainingJob", "UpdateTrainingJob", "DeleteTrainingJob"),
    *("AddTags", "ListTags", "DeleteTags"),
    *("Search", "GetSearchSuggestions"),
    *("CreateHyperParameterTuningJob", "DescribeHyperParameterTuningJob", "ListHyperParameterTuningJobs"),
    *("StopHyperParameterTuningJob", "DeleteHyperParameterTuningJob", "ListTrainingJobsForHyperParameterTuningJob"),
    *("CreateAlgorithm", "DescribeAlgorithm", "ListAlgorithms", "DeleteAlgorithm"),
    *(f"{verb}{noun}" for noun in ("Experiment", "Trial", "TrialComponent") for verb in ("Create", "Describe", "Update")),
    *("DeleteExperiment", "DeleteTrial", "DeleteTrialComponent"),
    *("ListExperiments", "ListTrials", "ListTrialComponents"),
    *("AssociateTrialComponent", "DisassociateTrialComponent"),
    *("CreateArtifact", "DescribeArtifact", "UpdateArtifact", "DeleteArtifact", "ListArtifacts"),
    *("AddAssociation", "DeleteAssociation", "ListAssociations"),
)
"""The operations of SageMaker, in the order of the page."""

NOTES = {
    "ListTrainingJobs": "every filter applies before the page is cut, so that pages are full",
    "UpdateTrainingJob": 'how long a warm pool is kept, and what means "off"; profiler and remote debugging are refused',
    "DeleteTrainingJob": "all of the job goes but its artifacts in S3 and its place in `phalanx audit`",
    "CreateHyperParameterTuningJob": "every member of the tuning itself; members of its training job definitions as below",
    "DeleteHyperParameterTuningJob": "its training jobs stay",
    "Search": "training jobs, tuning jobs, experiments, trials, trial components; nothing is found of other resources",
    "CreateAlgorithm": "validation profiles are refused; what concerns inference is kept, and changes nothing",
    "CreateTrialComponent": "a training job has one where it has an ExperimentConfig, named `JOB-aws-training-job`",
    "DeleteExperiment": "refused while it has trials",
    "DeleteTrial": "refused while it has trial components",
    "DeleteTrialComponent": "refused while it belongs to a trial",
    "CreateArtifact": "one of each source: its URI and `SourceTypes`",
    "DeleteArtifact": "refused while it has associations",
    "AddAssociation": "of artifacts, experiments and trial components; there are no actions and contexts",
    "ListAssociations": "what an experiment or trial component that is deleted was in is no longer there",
    "BatchPutMetrics": "what `Run.log_metric` of the SDK logs, as summaries; of each metric the first 20,000 values one by one",
    "BatchGetMetrics": "of training jobs by time, without `Last`; of what runs log by time and step. Times are in milliseconds",
    "GetMetricData": "no metric math",
    "GetMetricStatistics": "metrics of jobs (dimension `TrainingJobName`) and CPU, memory, disk of instances (`Host`)",
    "CreateKey": "symmetric keys, whose policy lets the policies of users and roles decide",
    "PutKeyPolicy": "what it says has to remain the same",
    "EnableKeyRotation": "every 90 to 2560 days, a year if not told",
    "ListKeyRotations": "no key materials",
    "GetRole": "any role of the account, until the first one is created",
    "AssumeRole": "session policies; no session tags, no MFA",
    "GetSessionToken": "no MFA",
    "CreateUser": "no permissions boundary",
    "CreateRole": "no permissions boundary",
}
"""What there is to say of operations that work."""
TESTS = Path(__file__).parents[1] / "tests"
GENERIC = {
    Support.REFUSED: "services/test_sagemaker.py::test_what_the_table_refuses_is_refused",
    Support.NO_EFFECT: "services/test_sagemaker.py::test_what_has_no_effect_is_accepted",
}
"""Tests that go through the table itself."""
WORDS = {Support.HONOURED: "works", Support.NO_EFFECT: "accepted, no effect", Support.REFUSED: "refused"}


def shown() -> dict[str, list[str]]:
    """By operation or member the tests that show it: those with the mark `shows`."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for test in ast.parse(path.read_text()).body:
            if isinstance(test, ast.FunctionDef):
                for name in _marked(test):
                    found.setdefault(name, []).append(f"{path.relative_to(TESTS)}::{test.name}")
    return found


def _marked(test: ast.FunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.shows":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def rows() -> dict[str, list[str]]:
    """By operation that is served and member of CreateTrainingJob the tests that show what the page says of it."""
    tests = shown()
    served = [operation for service in _services() for operation in service.handlers]
    found = {operation: tests.get(operation, []) for operation in served}
    for field in FIELDS:
        found[field.path] = tests.get(field.path, []) + ([GENERIC[field.support]] if field.support in GENERIC else [])
    return found


def _services() -> tuple[Service, ...]:
    jobs = sagemaker(None, None), sagemaker_metrics(None), logs(None), cloudwatch(None)  # type: ignore[arg-type]
    return *jobs, sts(None), iam(None), kms(None, None), phalanx(None, None)  # type: ignore[arg-type]


def page() -> str:
    """The page as it should be."""
    served = {service.name: sorted(service.handlers) for service in _services()}
    tests = rows()
    lines = [
        "# Compatibility",
        "",
        "<!-- Written by tools/compatibility.py from the code's own tables and the tests' marks; a test holds it to them. -->",
        "",
        "Every request is checked against the service model that botocore ships. What Phalanx does not do it refuses with a",
        "`ValidationException` that names the member and the reason. Where something is changed nothing is dropped silently,",
        "not even what only a newer botocore knows ([decision 39](decisions/0039-unknown-members-are-refused.md)). EC2's",
        "operations are in [ec2.md](ec2.md). The last column is a test, below `tests/`, that shows it.",
        "",
        "## SageMaker operations",
        "",
        "| operation | | shown by |",
        "|---|---|---|",
    ]
    for operation in OPERATIONS:
        lines.append(f"| `{operation}` | {NOTES.get(operation, '')} | {_tests(tests[operation])} |")
    lines += [
        "",
        "Any other operation of SageMaker is answered with `UnknownOperationException`.",
        "",
        "## Operations of other services",
        "",
        "| service | operation | | shown by |",
        "|---|---|---|---|",
    ]
    for name in ("sagemaker-metrics", "logs", "cloudwatch", "sts", "iam", "kms", "phalanx"):
        for operation in served[name]:
            lines.append(f"| {name} | `{operation}` | {NOTES.get(operation, '')} | {_tests(tests[operation])} |")
    lines += [
        "",
        "CloudWatch is served in each protocol that it has: AWS JSON, Smithy RPC v2 CBOR, AWS Query.",
        "",
        "## Members of CreateTrainingJob",
        "",
        "| member | | values taken | | shown by |",
        "|---|---|---|---|---|",
        *(_row(field, tests[field.path]) for field in FIELDS),
        "",
        "A member that is not in this table, of a newer service model, is refused.",
        "",
    ]
    return "\n".join(lines)


def _tests(names: list[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def _row(field: Field, tests: list[str]) -> str:
    values = "any" if field.values is None else ", ".join(f"`{json.dumps(value)}`" for value in field.values) or "none"
    return f"| `{field.path}` | {WORDS[field.support]} | {values} | {field.note} | {_tests(tests)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
