"""Artifacts and associations, by the handlers on a real SQLite file."""

from datetime import UTC, datetime

import pytest
from test_sagemaker import request, world  # noqa: F401
from test_sagemaker_experiments import ARN, lab, refused  # noqa: F401

from phalanx.services.sagemaker import artifacts, associations

SOURCE = {"SourceUri": "s3://bucket/roc.json", "SourceTypes": [{"SourceIdType": "S3ETag", "Value": '"abc"'}]}
RUN = f"{ARN}experiment-trial-component/part-1"
OTHER = f"{ARN}experiment-trial-component/part-2"


def made(lab, uri="s3://bucket/roc.json", kind="ROCCurve", **members):  # noqa: F811
    return lab.call("CreateArtifact", ArtifactType=kind, Source={"SourceUri": uri}, **members)["ArtifactArn"]


def listed(lab, operation, **members):  # noqa: F811
    """What all pages of a list hold, two to a page."""
    found, token = [], {}
    while True:
        answer = lab.call(operation, MaxResults=2, **members, **token)
        found += next(each for each in answer.values() if isinstance(each, list))
        if "NextToken" not in answer:
            return found
        token = {"NextToken": answer["NextToken"]}


@pytest.mark.shows("CreateArtifact", "DescribeArtifact", "UpdateArtifact", "DeleteArtifact")
def test_an_artifact_is_made_once_described_changed_and_deleted(lab):  # noqa: F811
    arn = lab.call(
        "CreateArtifact",
        ArtifactName="roc",
        ArtifactType="ROCCurve",
        Source=SOURCE,
        Properties={"a": "1", "b": "2"},
        MetadataProperties={"CommitId": "abc"},
        Tags=[{"Key": "of", "Value": "me"}],
    )["ArtifactArn"]
    before = lab.call("DescribeArtifact", ArtifactArn=arn)
    assert (before["ArtifactName"], before["ArtifactType"], before["Source"]) == ("roc", "ROCCurve", SOURCE)
    assert before["CreatedBy"]["IamIdentity"]["Arn"] == "arn:aws:iam::123456789012:user/admin"
    assert before["MetadataProperties"] == {"CommitId": "abc"}
    assert lab.call("ListTags", ResourceArn=arn) == {"Tags": [{"Key": "of", "Value": "me"}]}
    # The SDK looks for these words; the order of SourceTypes is no difference, what they hold is.
    refused(lab, "ValidationException", "already exists", "CreateArtifact", ArtifactType="Other", Source=SOURCE)
    refused(lab, "ValidationException", "already exists", "CreateArtifact", ArtifactType="ROCCurve", Source=SOURCE)
    newer = {**SOURCE, "SourceTypes": [{"SourceIdType": "S3ETag", "Value": '"def"'}]}
    assert lab.call("CreateArtifact", ArtifactName="roc", ArtifactType="ROCCurve", Source=newer)["ArtifactArn"] != arn
    lab.call("UpdateArtifact", ArtifactArn=arn, ArtifactName="curve", Properties={"c": "3"}, PropertiesToRemove=["a", "x"])
    after = lab.call("DescribeArtifact", ArtifactArn=arn)
    assert (after["ArtifactName"], after["Properties"]) == ("curve", {"b": "2", "c": "3"})
    many = {f"p{number}": "" for number in range(artifacts.PROPERTIES)}
    refused(lab, "ValidationException", "at most 30", "UpdateArtifact", ArtifactArn=arn, Properties=many)
    refused(lab, "ValidationException", "Either", "DeleteArtifact")
    refused(lab, "ValidationException", "Either", "DeleteArtifact", ArtifactArn=arn, Source=SOURCE)
    assert lab.call("DeleteArtifact", Source=SOURCE) == {"ArtifactArn": arn}
    refused(lab, "ResourceNotFound", "roc.json", "DeleteArtifact", Source=SOURCE)
    for operation in ("DescribeArtifact", "UpdateArtifact", "DeleteArtifact"):
        refused(lab, "ResourceNotFound", arn, operation, ArtifactArn=arn)
    refused(lab, "ValidationException", "not found", "ListTags", ResourceArn=arn)


def test_the_same_curve_may_be_logged_again(lab):  # noqa: F811
    """`Run.log_roc_curve` in a cell of a notebook that is run twice: the SDK needs the ARN of what it made, and takes it that
    the association is there."""
    asked = {"ArtifactName": "roc", "ArtifactType": "ROCCurve", "Source": SOURCE}
    arn = lab.call("CreateArtifact", **asked)["ArtifactArn"]
    assert lab.call("CreateArtifact", **asked) == {"ArtifactArn": arn}
    tagged = {**asked, "Tags": [{"Key": "a", "Value": "b"}]}
    refused(lab, "ValidationException", "already exists", "CreateArtifact", **tagged)


def test_an_artifact_of_another_account_or_region_is_not_this_ones(lab):  # noqa: F811
    arn = made(lab)
    for forged in (arn.replace("eu-central-1", "us-east-1"), arn.replace("123456789012", "210987654321")):
        refused(lab, "ResourceNotFound", "does not exist", "DescribeArtifact", ArtifactArn=forged)
        refused(lab, "ResourceNotFound", "does not exist", "AddAssociation", SourceArn=forged, DestinationArn=RUN)


@pytest.mark.shows("ListArtifacts")
def test_artifacts_are_listed_filtered_and_paged(lab):  # noqa: F811
    arns = [made(lab, f"s3://bucket/{number}", kind) for number, kind in enumerate(("Tracker", "ROCCurve", "ROCCurve"))]
    assert {each["ArtifactArn"] for each in listed(lab, "ListArtifacts")} == set(arns)
    assert {each["ArtifactArn"] for each in listed(lab, "ListArtifacts", ArtifactType="ROCCurve")} == set(arns[1:])
    (one,) = listed(lab, "ListArtifacts", SourceUri="s3://bucket/2")
    assert one["ArtifactArn"] == arns[2]
    assert "ArtifactName" not in one
    assert listed(lab, "ListArtifacts", CreatedAfter=datetime(2100, 1, 1, tzinfo=UTC)) == []
    refused(lab, "ValidationException", "NextToken", "ListArtifacts", NextToken="nonsense")


@pytest.mark.shows("AddAssociation", "DeleteAssociation", "ListAssociations")
def test_what_went_into_a_run_and_came_out_of_it(lab):  # noqa: F811
    data, curve = made(lab, "s3://bucket/data", "DataSet", ArtifactName="data"), made(lab)
    assert lab.call("AddAssociation", SourceArn=data, DestinationArn=RUN, AssociationType="ContributedTo") == {
        "SourceArn": data,
        "DestinationArn": RUN,
    }
    lab.call("AddAssociation", SourceArn=RUN, DestinationArn=curve, AssociationType="Produced")
    lab.call("AddAssociation", SourceArn=f"{ARN}experiment/exp-1", DestinationArn=curve)
    refused(lab, "ValidationException", "already exists", "AddAssociation", SourceArn=data, DestinationArn=RUN)
    for gone in (f"{ARN}action/none", f"{ARN}artifact/none", f"{ARN}experiment/none"):
        refused(lab, "ResourceNotFound", "does not exist", "AddAssociation", SourceArn=gone, DestinationArn=RUN)
        refused(lab, "ResourceNotFound", "does not exist", "AddAssociation", SourceArn=RUN, DestinationArn=gone)
        refused(lab, "ResourceNotFound", "does not exist", "DeleteAssociation", SourceArn=gone, DestinationArn=RUN)
    (into,) = listed(lab, "ListAssociations", DestinationArn=RUN)
    assert {key: value for key, value in into.items() if key not in ("CreationTime", "CreatedBy")} == {
        "SourceArn": data,
        "SourceType": "DataSet",
        "SourceName": "data",
        "DestinationArn": RUN,
        "DestinationType": "SageMakerExperimentTrialComponent",
        "DestinationName": "part-1",
        "AssociationType": "ContributedTo",
    }
    (out,) = listed(lab, "ListAssociations", SourceArn=RUN, DestinationType="ROCCurve")
    assert (out["DestinationArn"], out["AssociationType"]) == (curve, "Produced")
    (of_experiment,) = listed(lab, "ListAssociations", SourceType="SageMakerExperiment")
    assert "AssociationType" not in of_experiment
    assert listed(lab, "ListAssociations", AssociationType="SameAs") == []
    refused(lab, "ValidationException", "2 associations", "DeleteArtifact", ArtifactArn=curve)
    lab.call("DeleteAssociation", SourceArn=RUN, DestinationArn=curve)
    assert listed(lab, "ListAssociations", SourceArn=RUN) == []


def test_every_order_pages_through_all_associations_once(lab):  # noqa: F811
    arns = [made(lab, f"s3://bucket/{number}", f"Type{number % 2}") for number in range(4)]
    for arn in arns:
        lab.call("AddAssociation", SourceArn=arn, DestinationArn=RUN)
        lab.call("AddAssociation", SourceArn=OTHER, DestinationArn=arn)
    for by in associations._ORDERS:
        rising, falling = (
            [
                (each["SourceArn"], each["DestinationArn"])
                for each in listed(lab, "ListAssociations", SortBy=by, SortOrder=order)
            ]
            for order in ("Ascending", "Descending")
        )
        assert len(set(rising)) == 8
        assert falling == rising[::-1]


def test_a_run_that_follows_a_job_is_known_as_that(lab):  # noqa: F811
    curve = made(lab)
    lab.call("AddAssociation", SourceArn=RUN, DestinationArn=curve)
    lab.call("AddAssociation", SourceArn=curve, DestinationArn=RUN)
    lab.call("CreateTrainingJob", **request(ExperimentConfig={"TrialName": "trial-1", "RunName": "part-1"}))
    (out,) = listed(lab, "ListAssociations", SourceArn=RUN)
    (into,) = listed(lab, "ListAssociations", DestinationArn=RUN)
    assert out["SourceType"] == into["DestinationType"] == "SageMakerTrainingJob"


def test_runs_and_experiments_are_deleted_with_their_associations(lab):  # noqa: F811
    """As the SDK deletes an experiment with all that it has, which knows nothing of associations."""
    curve = made(lab)
    experiment = lab.call("CreateExperiment", ExperimentName="exp-3")["ExperimentArn"]
    run = lab.call("CreateTrialComponent", TrialComponentName="part-3")["TrialComponentArn"]
    lab.call("AddAssociation", SourceArn=run, DestinationArn=curve)
    lab.call("AddAssociation", SourceArn=curve, DestinationArn=experiment)
    lab.call("DeleteTrialComponent", TrialComponentName="part-3")
    lab.call("DeleteExperiment", ExperimentName="exp-3")
    assert listed(lab, "ListAssociations") == []
    assert lab.call("DeleteArtifact", ArtifactArn=curve) == {"ArtifactArn": curve}


def test_limits(lab, monkeypatch):  # noqa: F811
    monkeypatch.setattr(artifacts, "ARTIFACTS", 1)
    monkeypatch.setattr(associations, "ASSOCIATIONS", 1)
    curve = made(lab)
    refused(lab, "ResourceLimitExceeded", "Artifacts", "CreateArtifact", ArtifactType="x", Source=SOURCE)
    lab.call("AddAssociation", SourceArn=RUN, DestinationArn=curve)
    refused(lab, "ResourceLimitExceeded", "Associations", "AddAssociation", SourceArn=OTHER, DestinationArn=curve)
