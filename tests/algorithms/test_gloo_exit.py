"""Scripts that end while a worker thread of Gloo has still to let go of something."""

import subprocess
import sys
from pathlib import Path

import pytest

from phalanx import algorithms

IMAGE = Path(algorithms.__file__).parent / "pytorch/image"
SCRIPT = """
import ctypes, hashlib, sys, threading
import gloo_exit

def work():
    ctypes.CDLL(None).prctl(15, b"pt_gloo_runloop", 0, 0, 0)  # PR_SET_NAME
    named.set()
    hashlib.pbkdf2_hmac("sha512", b"", b"", 300_000)  # without the interpreter's lock
    print("let go", flush=True)
    threading.Event().wait()

named = threading.Event()
threading.Thread(target=work, daemon=True).start()
named.wait()
if sys.argv[1] == "distributed":
    sys.modules["torch.distributed"] = sys
print("the script ends", flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(("used", "said"), [("distributed", "the script ends\nlet go\n"), ("nothing", "the script ends\n")])
def test_a_process_ends_once_the_worker_is_done(used: str, said: str) -> None:
    command = [sys.executable, "-c", SCRIPT, used]
    done = subprocess.run(command, env={"PYTHONPATH": str(IMAGE)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, said, "")
