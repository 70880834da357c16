"""A signal is told whatever the process does at the moment when it comes."""

import subprocess
import sys

PROGRAM = """
import select, signal, threading
from phalanx.linux.signals import Signals

def tell():
    # This thread runs no handlers, and the one that does is not interrupted: it is about to wait, or waits already.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.pthread_kill(threading.get_ident(), number)

signals = Signals(signal.SIGTERM, signal.SIGHUP)
assert not select.select([signals], [], [], 0)[0]
thread = threading.Thread(target=tell)
thread.start()
print(signals.wait(), signals.wait())
thread.join()
signal.raise_signal(signal.SIGHUP)
select.select([signals], [], [])
print(signals.wait())
"""


def test_none_is_missed_and_each_is_told_once_in_their_order():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1 15\n1\n", "")
