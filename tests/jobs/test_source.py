import json

import pytest

from phalanx.data.model import Channel
from phalanx.jobs import source


@pytest.mark.parametrize("quoted", [True, False], ids=["as SDK v2 sends it", "bare"])
def test_the_archive_is_brought_and_its_copy_named(quoted):
    uri = "s3://bucket/job/source/sourcedir.tar.gz"
    given = {"sagemaker_submit_directory": json.dumps(uri) if quoted else uri, "sagemaker_program": '"train.py"', "rounds": "5"}
    hyperparameters, channel = source.brought(given)
    assert hyperparameters == {**given, "sagemaker_submit_directory": '"/opt/ml/input/source/sourcedir.tar.gz"'}
    assert channel == Channel("source", uri)


@pytest.mark.parametrize(
    "given", [{}, {"rounds": "5"}, {"sagemaker_submit_directory": '"/opt/ml/input/data/code/sourcedir.tar.gz"'}]
)
def test_what_is_in_the_container_already_stays_as_it_is(given):
    assert source.brought(given) == (given, None)
