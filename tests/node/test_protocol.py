"""Calls to the agent: what goes in comes out, and no request is fatal."""

import json
import socket
import threading
from functools import partial

import pytest

from phalanx.data.model import Channel, Group, ObjectStore, Output, Workspace
from phalanx.ipsec.pki import issue_mesh
from phalanx.network.model import Eni
from phalanx.node import protocol
from phalanx.node.messages import Capacity, InstanceSpec, Phase, decode, encode
from phalanx.runtime.model import Limits

HOSTS = {"algo-1": "10.0.0.10", "algo-2": "10.0.0.11"}


def spec(host="algo-1", job="job", groups=("sg-1",), isolated=False, encrypted=True, hosts=HOSTS, vpc_id="vpc-1"):
    mesh = issue_mesh(job, list(hosts.items()))[host] if encrypted else None
    return InstanceSpec(
        id=f"i-{job}-{host}",
        job=job,
        host=host,
        hosts=hosts,
        vpc_id=vpc_id,
        eni=Eni(f"eni-{job}{host[-1]}", hosts[host], groups),
        isolated=isolated,
        mesh=mesh,
        image="xgboost",
        command=None,
        arguments=("train",),
        environment={"A": "ü"},
        limits=Limits(1.5, 2**30),
        workspace=Workspace(
            job, host, (Group("g", "ml.m5.large", tuple(hosts)),), (("a", "b"),), (Channel("train", "s3://b/k"),)
        ),
        store=ObjectStore(None, "us-west-2", "key", "secret"),
        output=Output(job, "s3://b/models"),
    )


class Agent:
    """A few calls with the kinds of types that the real agent has."""

    def __init__(self):
        self.goals = []

    def capacity(self) -> Capacity:
        return Capacity(2, 3)

    def advance(self, ids: tuple[str, ...], goal: Phase) -> None:
        self.goals.append((ids, goal))

    def place(self, specs: tuple[InstanceSpec, ...]) -> list[InstanceSpec]:
        return list(specs)

    def fail(self) -> None:
        raise RuntimeError("no room")


@pytest.fixture
def agent(tmp_path):
    agent = Agent()
    with protocol.LineServer(tmp_path / "s", partial(protocol.answer, agent), protocol.LINE_LIMIT) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        agent.path = tmp_path / "s"
        yield agent
        server.shutdown()


def call(agent, method, **arguments):
    return protocol.call(agent.path, Agent, method, arguments, 5)


def test_messages_survive_the_wire(agent):
    assert call(agent, "capacity") == Capacity(2, 3)
    specs = (spec("algo-1"), spec("algo-2", encrypted=False))
    assert call(agent, "place", specs=specs) == list(specs)
    call(agent, "advance", ids=("i-1", "i-2"), goal=Phase.LOADED)
    assert agent.goals == [(("i-1", "i-2"), Phase.LOADED)]


def test_specs_survive_being_saved():
    original = spec()
    assert decode(InstanceSpec, json.loads(json.dumps(encode(InstanceSpec, original)))) == original


def test_failures_reach_the_caller_in_words(agent):
    with pytest.raises(protocol.CallFailed, match="no room"):
        call(agent, "fail")


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'{"method": "none", "arguments": {}}', b'{"method": "__init__", "arguments": {}}',
     b'{"method": "advance", "arguments": {"ids": 1, "goal": 99}}', b"\xff\n"],
)  # fmt: skip
def test_no_request_is_fatal(line):
    assert "error" in json.loads(protocol.answer(Agent(), line))


def test_an_agent_that_is_away_is_told_apart_from_one_that_refuses(tmp_path):
    with pytest.raises(protocol.Unreachable):
        protocol.call(tmp_path / "nobody", Agent, "capacity", {}, 1)


def test_secrets_are_not_printed():
    text = repr(spec())
    assert "PRIVATE KEY" not in text
    assert "'secret'" not in text


def test_who_is_gone_when_there_is_an_answer_leaves_no_traceback_in_the_agents_log(tmp_path, capfd):
    asked, gone = threading.Event(), threading.Event()

    def answer(line):
        asked.set()
        assert gone.wait(30)
        return line

    with protocol.LineServer(tmp_path / "s", answer, protocol.LINE_LIMIT) as server:
        # The server waits for its threads at its end.
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            client.sendall(b"a line\n")
            assert asked.wait(30)
        gone.set()
        server.shutdown()
    assert capfd.readouterr().err == ""
