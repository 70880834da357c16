"""The CloudWatch Logs handlers, called directly, on a real SQLite file."""

from types import SimpleNamespace

import pytest
from answers import told

from phalanx.services.logs import filter as log_filter
from phalanx.services.logs.events import PAGE_BYTES, size
from phalanx.services.logs.pattern import compile_pattern
from phalanx.services.logs.service import service
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import LogEvent, LogStream, TrainingJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "eu-central-1", "AKIAEXAMPLE", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE", "r-1")
GROUP = "/aws/sagemaker/TrainingJobs"
GROUP_ARN = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/sagemaker/TrainingJobs"
STREAM = "job-1/algo-1-1700000000000"
START = 1_700_000_000_000


@pytest.fixture
def world(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    handlers = service(database).handlers

    def call(operation, **members):
        return told(handlers[operation](CALLER, members))

    def write(stream, messages, start=START):
        """Append events, a second apart."""
        job, host = stream.split("/")
        with database.write() as session:
            if session.get(TrainingJob, job) is None:
                session.add(
                    TrainingJob(
                        name=job,
                        arn=f"arn:aws:sagemaker:eu-central-1:123456789012:training-job/{job}",
                        request={},
                        status="InProgress",
                        secondary_status="Training",
                        created=START,
                        modified=START,
                        instances=1,
                        encrypted=False,
                    )
                )
                session.flush()
            row = session.get(LogStream, stream)
            if row is None:
                row = LogStream(name=stream, job=job, host=host.rpartition("-")[0], created=START, events=0)
                session.add(row)
                session.flush()
            for message in messages:
                timestamp = start + 1000 * row.events
                session.add(
                    LogEvent(stream=stream, number=row.events, timestamp=timestamp, ingested=timestamp + 5, message=message)
                )
                row.events += 1
                row.first_event = row.first_event or timestamp
                row.last_event, row.last_ingestion = timestamp, timestamp + 5

    yield SimpleNamespace(call=call, write=write)
    database.close()


def read(world, **members):
    return world.call("GetLogEvents", **{"logGroupName": GROUP, "logStreamName": STREAM, **members})


def messages(response):
    return [event["message"] for event in response["events"]]


def refused(call, code, text):
    with pytest.raises(AwsError) as caught:
        call()
    assert caught.value.code == code
    assert text in caught.value.message


@pytest.mark.shows("DescribeLogGroups")
def test_the_group(world):
    group = {
        "logGroupName": GROUP,
        "arn": GROUP_ARN + ":*",
        "logGroupArn": GROUP_ARN,
        "logGroupClass": "STANDARD",
        "metricFilterCount": 0,
    }
    assert world.call("DescribeLogGroups") == {"logGroups": [group]}
    world.write(STREAM, ["a"])
    assert world.call("DescribeLogGroups", logGroupNamePrefix="/aws/sage") == {"logGroups": [{**group, "creationTime": START}]}
    assert world.call("DescribeLogGroups", logGroupNamePrefix="/other") == {"logGroups": []}
    assert world.call("DescribeLogGroups", logGroupNamePattern="trainingjobs")["logGroups"]
    assert not world.call("DescribeLogGroups", logGroupIdentifiers=["/x"])["logGroups"]


def test_streams_of_one_job(world):
    for stream in ("job-1/algo-1-1", "job-1/algo-2-1", "job-10/algo-1-1", "JOB-1/algo-1-1"):
        world.write(stream, ["a", "b"])
    # SDK v2 asks with the number of instances as limit, and would loop for ever on a token.
    response = world.call(
        "DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix="job-1/", orderBy="LogStreamName", limit=2
    )
    assert "nextToken" not in response
    assert [stream["logStreamName"] for stream in response["logStreams"]] == ["job-1/algo-1-1", "job-1/algo-2-1"]
    assert response["logStreams"][0] == {
        "logStreamName": "job-1/algo-1-1",
        "creationTime": START,
        "firstEventTimestamp": START,
        "lastEventTimestamp": START + 1000,
        "lastIngestionTime": START + 1005,
        "arn": GROUP_ARN + ":log-stream:job-1/algo-1-1",
        "storedBytes": 0,
    }
    by_prefix = world.call("DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix="job-1")
    assert len(by_prefix["logStreams"]) == 3


def test_a_stream_without_events(world):
    world.write(STREAM, [])
    (stream,) = world.call("DescribeLogStreams", logGroupIdentifier=GROUP_ARN)["logStreams"]
    assert stream["logStreamName"] == STREAM
    assert "firstEventTimestamp" not in stream
    response = read(world)
    assert response["events"] == []
    assert messages(read(world, nextToken=response["nextForwardToken"])) == []
    world.write(STREAM, ["a"])
    assert messages(read(world, nextToken=response["nextForwardToken"])) == ["a"]


@pytest.mark.shows("ListTagsForResource")
def test_the_group_has_no_tags(world):
    for arn in (GROUP_ARN, f"{GROUP_ARN}:*"):
        assert world.call("ListTagsForResource", resourceArn=arn) == {"tags": {}}
    with pytest.raises(AwsError, match="does not exist") as refusal:
        world.call("ListTagsForResource", resourceArn=f"{GROUP_ARN}s")
    assert refusal.value.code == "ResourceNotFoundException"


@pytest.mark.shows("DescribeLogStreams")
@pytest.mark.parametrize("order", [{}, {"orderBy": "LogStreamName"}, {"orderBy": "LastEventTime"}])
@pytest.mark.parametrize("descending", [False, True])
def test_streams_page_by_page(world, order, descending):
    for number in range(7):
        # Two have no events, and two their last event at the same time.
        world.write(f"job-1/algo-{number}-1", ["a"] if number > 1 else [], start=START + 1000 * min(number, 5))
    found = []
    token = {}
    for _ in range(10):
        page = world.call("DescribeLogStreams", logGroupName=GROUP, limit=3, descending=descending, **order, **token)
        found += [stream["logStreamName"] for stream in page["logStreams"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == sorted((f"job-1/algo-{number}-1" for number in range(7)), reverse=descending)


@pytest.mark.shows("GetLogEvents")
def test_reading_forward_ends_in_the_token_that_was_given(world):
    world.write(STREAM, [f"line {number}" for number in range(5)])
    first = read(world, startFromHead=True, limit=3)
    assert messages(first) == ["line 0", "line 1", "line 2"]
    assert first["events"][1] == {"timestamp": START + 1000, "message": "line 1", "ingestionTime": START + 1005}
    second = read(world, startFromHead=True, limit=3, nextToken=first["nextForwardToken"])
    assert messages(second) == ["line 3", "line 4"]
    assert second["nextForwardToken"] != first["nextForwardToken"]
    end = read(world, startFromHead=True, limit=3, nextToken=second["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], second["nextForwardToken"])
    world.write(STREAM, ["line 5"])
    more = read(world, startFromHead=True, nextToken=end["nextForwardToken"])
    assert messages(more) == ["line 5"]
    assert messages(read(world, nextToken=more["nextBackwardToken"], limit=2)) == ["line 3", "line 4"]


def test_reading_backward_from_the_tail(world):
    world.write(STREAM, [f"line {number}" for number in range(5)])
    tail = read(world, limit=3)
    assert messages(tail) == ["line 2", "line 3", "line 4"]
    head = read(world, limit=3, nextToken=tail["nextBackwardToken"])
    assert messages(head) == ["line 0", "line 1"]
    end = read(world, limit=3, nextToken=head["nextBackwardToken"])
    assert (end["events"], end["nextBackwardToken"]) == ([], head["nextBackwardToken"])
    assert messages(read(world, nextToken=tail["nextForwardToken"])) == []
    assert messages(read(world, nextToken=end["nextForwardToken"], limit=1)) == ["line 0"]


def test_times_begin_inclusive_and_end_exclusive(world):
    world.write(STREAM, [f"line {number}" for number in range(5)])
    assert messages(read(world, startTime=START + 1000, endTime=START + 3000)) == ["line 1", "line 2"]
    assert messages(read(world, startTime=START + 1000, startFromHead=True, limit=1)) == ["line 1"]
    nothing = read(world, startTime=START + 9000, startFromHead=True)
    assert messages(nothing) == []
    assert nothing["nextForwardToken"]


def test_pages_stay_under_one_megabyte(world):
    line = "ä" * 100_000
    world.write(STREAM, [line] * 12)
    for members in ({"startFromHead": True}, {}):
        page = read(world, **members)
        assert 0 < sum(size(message) for message in messages(page)) <= PAGE_BYTES
        assert len(page["events"]) == 5
    count, token = 0, {}
    for _ in range(20):
        page = read(world, startFromHead=True, **token)
        count += len(page["events"])
        if token == {"nextToken": page["nextForwardToken"]}:
            break
        token = {"nextToken": page["nextForwardToken"]}
    assert count == 12


def test_an_event_larger_than_a_page_still_comes(world):
    world.write(STREAM, ["x" * (PAGE_BYTES + 1), "y"])
    assert [len(message) for message in messages(read(world, startFromHead=True))] == [PAGE_BYTES + 1]


def test_unknown_streams_groups_and_tokens(world):
    world.write(STREAM, ["a"])
    code = "ResourceNotFoundException"
    refused(lambda: read(world, logStreamName="job-2/algo-1-1"), code, "The specified log stream does not exist.")
    refused(lambda: read(world, logGroupName="/aws/lambda/x"), code, "The specified log group does not exist.")
    code = "InvalidParameterException"
    for token in ("f/1", "nonsense", f"f/{2:056d}/s", f"f/{10**55:056d}/s"):
        refused(lambda token=token: read(world, nextToken=token), code, "The specified nextToken is invalid.")
    refused(lambda: read(world, logGroupIdentifier=GROUP), code, "either logGroupName or logGroupIdentifier")
    refused(lambda: world.call("DescribeLogStreams"), code, "either logGroupName or logGroupIdentifier")
    for names in (["job-2/algo-1-1"], [STREAM, "job-2/algo-1-1"]):
        refused(
            lambda names=names: find(world, logStreamNames=names),
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        )
    both = {"logGroupName": GROUP, "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}
    refused(lambda: world.call("DescribeLogStreams", **both), code, "Cannot order by LastEventTime with a logStreamNamePrefix.")
    refused(lambda: world.call("DescribeLogStreams", logGroupName=GROUP, nextToken="x"), code, "nextToken is invalid")


def find(world, **members):
    return world.call("FilterLogEvents", logGroupName=GROUP, **members)


@pytest.mark.shows("FilterLogEvents")
def test_filter_merges_streams_by_time(world):
    world.write("job-1/algo-1-1", ["a0", "a1", "a2"])
    world.write("job-1/algo-2-1", ["b0", "b1"], start=START + 500)
    world.write("job-2/algo-1-1", ["other"])
    response = find(world, logStreamNamePrefix="job-1/")
    assert messages(response) == ["a0", "b0", "a1", "b1", "a2"]
    assert response["searchedLogStreams"] == []
    assert "nextToken" not in response
    assert response["events"][1]["logStreamName"] == "job-1/algo-2-1"
    ids = {event["eventId"] for event in response["events"]}
    assert len(ids) == 5
    assert all(len(each) == 56 and each.isdigit() for each in ids)
    assert messages(find(world, logStreamNames=["job-1/algo-2-1"], startTime=START + 1000)) == ["b1"]
    assert messages(find(world, logStreamNamePrefix="job-1/", endTime=START + 500)) == ["a0", "b0"]
    found, token = [], {}
    for _ in range(10):
        page = find(world, logStreamNamePrefix="job-1/", limit=2, **token)
        found += messages(page)
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == ["a0", "b0", "a1", "b1", "a2"]


def test_filter_gives_up_a_page_rather_than_search_for_ever(world, monkeypatch):
    monkeypatch.setattr(log_filter, "EVENTS_SEARCHED", 3)
    world.write(STREAM, [f"line {number}" for number in range(8)])
    first = find(world, filterPattern='"line 5"')
    assert messages(first) == []
    second = find(world, filterPattern='"line 5"', nextToken=first["nextToken"])
    assert messages(second) == ["line 5"]
    assert "nextToken" not in find(world, filterPattern='"line 5"', nextToken=second["nextToken"])


def test_filter_refuses_what_it_does_not_do(world):
    code = "InvalidParameterException"
    refused(lambda: find(world, logStreamNames=["a"], logStreamNamePrefix="a"), code, "mutually exclusive")
    refused(lambda: find(world, startFromHead=False), code, "startFromHead false is not supported")
    for pattern in ("{ $.a = 1 }", "[a, b]", "%x%", '"open'):
        refused(lambda pattern=pattern: find(world, filterPattern=pattern), code, "Invalid filter pattern")


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", ["anything"], []),
        ("ERROR", ["an ERROR here"], ["error", "fine"]),
        ("ERROR disk", ["disk ERROR"], ["ERROR", "disk"]),
        ('"two words"', ["has two words"], ["two  words"]),
        ("ERROR -retry", ["ERROR"], ["ERROR retry"]),
        ("?auc ?rmse", ["auc 1", "rmse 2"], ["loss"]),
        (r'"a \"quoted\" word"', ['a "quoted" word'], ["a quoted word"]),
        ('-"not this"', ["but that"], ["not this"]),
    ],
)
def test_patterns(pattern, matching, others):
    matches = compile_pattern(pattern)
    assert all(matches(message) for message in matching)
    assert not any(matches(message) for message in others)
