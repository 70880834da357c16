"""Nothing in the clear: containers that try to leak, and guards that somebody tears down while they do.

Each test runs twice: encrypted, and without encryption, where the same program and the same capture must see plaintext.
"""

import base64
import contextlib
import errno
import json
import os
import signal
import subprocess
import textwrap
import zlib

import pytest

from e2e.conftest import ESP, IMAGE, UDP_500, wait_for
from e2e.test_first_job import capture

UDP = {"IpProtocol": "udp", "FromPort": 0, "ToPort": 65535}
ENCRYPTED = pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "sanity"])
BOTH = ["kernel", "router"]

PRELUDE = """
    import collections, errno, json, signal, socket, struct, threading, time
    config = json.load(open("/opt/ml/input/config/resourceconfig.json"))
    peer, = [socket.gethostbyname(host) for host in config["hosts"] if host != config["current_host"]]
    seen = collections.Counter()
    def attempt(name, action):
        try:
            action()
            seen[name] += 1
        except OSError as error:
            seen[name + " " + errno.errorcode.get(error.errno, "?")] += 1
    def udp(port=7777, to=None, options=(), source=None, family=socket.AF_INET):
        with socket.socket(family, socket.SOCK_DGRAM) as opened:
            for option in options:
                opened.setsockopt(*option)
            if source:
                opened.bind(("", source))
            opened.sendto(b"secret", (to or peer, port))
    WIRE = (socket.SOL_SOCKET, 25, b"eth0")
"""

HOSTILE = (
    PRELUDE
    + """
    for port in (500, 501, 4500, 7777):
        attempt("udp to %d on the wire" % port, lambda: udp(port, options=[WIRE]))
    for port in (50, 500, 501):
        attempt("udp from %d" % port, lambda: udp(500, options=[WIRE, (1, 15, 1), (1, 2, 1)], source=port))
    attempt("udp from 4500", lambda: udp(4500, options=[WIRE], source=4500))
    route = lambda kind: (0, 4, bytes([kind, 7, 4]) + socket.inet_aton(peer) + bytes(1))
    attempt("loose source route", lambda: udp(500, "169.254.1.1", [WIRE, route(131)]))
    attempt("strict source route", lambda: udp(500, "169.254.1.1", [WIRE, route(137)]))
    attempt("multicast", lambda: udp(500, "239.1.1.1", [WIRE]))
    attempt("broadcast", lambda: udp(500, "255.255.255.255", [WIRE, (1, 6, 1)]))
    attempt("IP_UNICAST_IF", lambda: udp(500, options=[(0, 50, struct.pack("!I", socket.if_nametoindex("eth0")))]))
    attempt("mapped", lambda: udp(500, "::ffff:" + peer, [WIRE], family=socket.AF_INET6))
    attempt("IPv6", lambda: udp(500, "ff02::1%eth0", family=socket.AF_INET6))
    attempt("IP_XFRM_POLICY", lambda: udp(options=[(0, 17, bytes(168)), WIRE]))
    def stream():
        with socket.socket() as opened:
            opened.setsockopt(*WIRE)
            opened.settimeout(1)
            opened.sendto(b"secret", 0x20000000, (peer, 500))
    attempt("TCP", stream)
    for name, kind in {"raw ESP": (2, 3, 50), "raw": (2, 3, 255), "ping": (2, 2, 1), "packet": (17, 3, 3), "vsock": (40, 1, 0),
                       "key": (15, 3, 2), "XFRM": (16, 3, 6), "netfilter": (16, 3, 12)}.items():
        attempt(name, lambda: socket.socket(*kind).close())
    for path in ("ip_unprivileged_port_start", "ip_forward", "conf/eth0/disable_xfrm"):
        attempt("write " + path, lambda: open("/proc/sys/net/ipv4/" + path, "w").write("1"))
    for number in range(20):
        udp()
        time.sleep(.05)
    print("SEEN", json.dumps(seen), flush=True)
    time.sleep(2)
"""
)

CHATTER = (
    PRELUDE
    + """
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    def listen():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.setsockopt(*WIRE)
            wire.bind(("", 7777))
            wire.settimeout(.2)
            while not stopped.is_set():
                attempt("arrived in the clear", lambda: wire.recv(100))
    def answers():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
            any_.bind(("", 7778))
            any_.settimeout(.2)
            while not stopped.is_set():
                attempt("arrived", lambda: any_.recv(100))
    threads = [threading.Thread(target=each) for each in (listen, answers)]
    for each in threads:
        each.start()
    while not stopped.is_set():
        attempt("wire", lambda: udp(options=[WIRE]))
        attempt("way", lambda: udp())
        attempt("way", lambda: udp(7778))
        print("ARRIVED", seen["arrived"], flush=True)
        time.sleep(.05)
    print("SEEN", json.dumps(seen), flush=True)
"""
)


def program(code):
    """Members of CreateTrainingJob that make every container run this Python program."""
    packed = base64.b64encode(zlib.compress(textwrap.dedent(code).encode())).decode()
    unpack = "import sys,zlib,base64;exec(zlib.decompress(base64.b64decode(''.join(sys.argv[1:]))))"
    return {
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", unpack],
            "ContainerArguments": [packed[at : at + 250] for at in range(0, len(packed), 250)],
        }
    }


def said(phalanx, name, word):
    """What followed that word at the beginning of each container's last such line."""
    logs, group, found = phalanx.client("logs"), "/aws/sagemaker/TrainingJobs", []
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
        for stream in logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]:
            events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
            texts = [event["message"] for event in events if event["message"].startswith(f"{word} ")]
            found += [json.loads(text.removeprefix(word)) for text in texts[-1:]]
    return found


def arrived(phalanx, name):
    """Datagrams that have arrived at the container that got the least."""
    found = said(phalanx, name, "ARRIVED")
    return min(found) if len(found) == 2 else 0


def crossed(process):
    """Kinds of what instances put on the wire, but for ARP; who got it does not matter."""
    captured = json.loads(process.communicate(timeout=60)[0])
    assert captured["lost"] == 0
    return {row["kind"] for row in captured["frames"]} - {"ARP"}


@pytest.mark.shows("AlgorithmSpecification.ContainerEntrypoint", "AlgorithmSpecification.ContainerArguments")
@ENCRYPTED
def test_a_hostile_container_puts_nothing_on_the_wire_but_esp(phalanx, encrypted):
    name = f"hostile-{'encrypted' if encrypted else 'clear'}"
    network = phalanx.network(UDP_500, ESP, UDP)
    process = capture(phalanx, phalanx.vpc_of(network))
    phalanx.create(name, encrypted=encrypted, network=network, **program(HOSTILE))
    job = phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    kinds = crossed(process)
    counted = said(phalanx, name, "SEEN")
    assert len(counted) == 2
    if not encrypted:
        assert "UDP" in kinds
        assert all(each["udp to 7777 on the wire"] == each["multicast"] == 1 for each in counted)
        return
    assert kinds == {"UDP 500", "ESP"}
    errors = set(errno.errorcode.values())
    assert [attempt for each in counted for attempt in each if attempt.rpartition(" ")[2] not in errors] == []
    evidence = phalanx.evidence(name)
    assert evidence["gaps"] == []
    assert evidence["plaintext_packets_dropped"] > 0
    assert all(pair["packets"] >= 20 for pair in evidence["pairs"])


@ENCRYPTED
def test_nothing_arrives_in_the_clear_whatever_is_torn_down(phalanx, encrypted):
    name = f"torn-{'encrypted' if encrypted else 'clear'}"
    network = phalanx.network(UDP_500, ESP, UDP)
    phalanx.create(name, encrypted=encrypted, network=network, **program(CHATTER))
    router = phalanx.names.router_namespace(phalanx.vpc_of(network))
    wait_for(lambda: arrived(phalanx, name), 90, "traffic")
    if encrypted:
        first, _ = instances(phalanx, name)
        one = phalanx.names.instance_namespace(first)
        inside(router, "nft", "flush", "ruleset")
        wait_for(lambda: "forward-guard" in inside(router, "nft", "list", "ruleset"), 20, "the rules")
        # The other guard falls once this one was seen to hold again: as long as neither was, none is named.
        wait_for(lambda: held(phalanx, first)[2:] == [["kernel"], BOTH], 30, "both guards")
        inside(one, "ip", "xfrm", "policy", "flush")
        wait_for(lambda: "action block" in inside(one, "ip", "xfrm", "policy"), 20, "the guard")
        for words in ("route del {0} dev ipsec0", "link set ipsec0 down"):
            wait_for(lambda: routes(one), 30, "the way to the peer")
            inside(one, "ip", *words.format(*routes(one)).split())
        wait_for(lambda: routes(one), 30, "the way to the peer")
        subprocess.run(["ip", "netns", "delete", router], check=True)
        wait_for(lambda: routes(one) and "eth0" in inside(one, "ip", "link"), 30, "the wire")
        for pid in phalanx.processes("phalanx.ipsec.engine"):
            os.kill(pid, signal.SIGKILL)
        before = arrived(phalanx, name)
        wait_for(lambda: arrived(phalanx, name) > before + 20, 90, "traffic to flow again")
    phalanx.client("sagemaker").stop_training_job(TrainingJobName=name)
    job = phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Stopped", job.get("FailureReason")
    counted = said(phalanx, name, "SEEN")
    assert len(counted) == 2
    if not encrypted:
        assert all(each["arrived in the clear"] > 0 for each in counted)
        return
    assert all("arrived in the clear" not in each and each["arrived"] > 0 for each in counted)
    evidence = phalanx.evidence(name)
    told = {text for instance in evidence["instances"] for text in instance["interruptions"]}
    for words in ("changed the router's rules", "lacks", "is not the way to", "engine is dead"):
        assert any(words in text for text in told), told
    one = evidence["instances"][0]["guards"]["changes"]
    for guards, words in (
        (["kernel"], "changed the router's rules"),
        (["router"], "lacks"),
        (BOTH, "hold again"),
    ):
        assert any(change["held_by"] == guards and words in change["cause"] for change in one), one
    assert one[-1]["held_by"] == BOTH, one


def instances(phalanx, name):
    """Ids of a job's instances, in the order of their hosts."""
    found = {}
    for path in phalanx.names.run_dir.glob("i-*/spec.json"):
        spec = json.loads(path.read_text())["spec"]
        if spec["job"] == name:
            found[spec["host"]] = spec["id"]
    return [found[host] for host in sorted(found)]


def held(phalanx, instance):
    """The guards that were known to hold an instance shut, from change to change, as far as its agent has written them down."""
    written = json.loads((phalanx.names.run_dir / instance / "guards").read_text())
    return [change["held_by"] for change in written["changes"]]


def inside(namespace, *command):
    done = subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", *command], check=True, capture_output=True, text=True)
    return done.stdout


def routes(namespace):
    shown = subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "ip", "route", "show", "dev", "ipsec0"],
        check=False,
        capture_output=True,
        text=True,
    )
    return [line.split()[0] for line in shown.stdout.splitlines()]
