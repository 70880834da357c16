"""A short run of what native/fuzz runs long: packets under ASan and UBSan, XFRM requests under hypothesis."""

import os
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.ipsec.engine.messages import Direction, Refused, Type

from .requests import ACK, Instance, alloc_spi, new_sa, policy, policy_id, sa_id

NATIVE = Path(__file__).parents[3] / "native"
REQUESTS = [
    new_sa(0xC0000001),
    new_sa(0xC0000001, kind=Type.UPDSA),
    alloc_spi(),
    policy(Direction.OUT, 5),
    policy(Direction.IN),
    policy(Direction.FWD, action=1, templates=[]),
    *(sa_id(kind, 0xC0000001) for kind in (Type.DELSA, Type.GETSA, Type.GETAE)),
    policy_id(Type.DELPOLICY, Direction.OUT),
    policy_id(Type.GETPOLICY, Direction.OUT, flags=0x301),
]
FLAGS = "-g -O1 -std=c11 -D_GNU_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=undefined -pthread"


def test_changed_packets_under_sanitizers(tmp_path):
    program = tmp_path / "packets"
    sources = [NATIVE / "fuzz" / "packets.c", NATIVE / "fuzz" / "driver.c", *(NATIVE / "engine").glob("*.c")]
    build = ["gcc", *FLAGS.split(), f"-I{NATIVE / 'engine'}", *map(str, sources), "-lcrypto", "-o", str(program)]
    subprocess.run(build, check=True)
    corpus = sorted(map(str, (NATIVE / "fuzz" / "corpus").iterdir()))
    done = subprocess.run([program, "20000", *corpus], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "20000 changed copies: nothing found" in done.stdout


def test_threads_and_control_side_do_not_race(tmp_path):
    program = tmp_path / "threads"
    sources = [NATIVE / "fuzz" / "threads.c", *(NATIVE / "engine").glob("*.c")]
    flags = ["-g", "-O1", "-std=c11", "-D_GNU_SOURCE", "-fsanitize=thread", "-pthread", f"-I{NATIVE / 'engine'}"]
    subprocess.run(["gcc", *flags, *map(str, sources), "-lcrypto", "-o", str(program)], check=True)
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run([program, "2"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@settings(max_examples=1000, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=600),
            st.tuples(
                st.sampled_from(REQUESTS),
                st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
                st.integers(0, 600),
            ),
        ),
        max_size=8,
    )
)
def test_changed_requests_are_answered_or_refused(requests):
    instance = Instance()
    try:
        for request in requests:
            if isinstance(request, bytes):
                message = bytearray(request)
            else:
                message = bytearray(request[0])
                for at, value in request[1]:
                    message[at % len(message)] = value
                if request[2] < len(message) // 2:
                    del message[-request[2] or len(message) :]
            try:
                answers = instance.dispatcher.handle(memoryview(message), "charon", 0.0)
            except Refused:
                continue
            assert answers or not message[6] & ACK  # as in the kernel: success is told to who asks
    finally:
        instance.dispatcher.release("charon")
        instance.core.close()
