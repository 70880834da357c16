"""How long a host may count on its instances."""

import time

from phalanx.node import lease as module
from phalanx.node.lease import Lease


def test_it_runs_from_when_the_host_was_surely_heard_of(monkeypatch):
    now = [1000.0]
    # Another clock may stand still while the host is suspended.
    monkeypatch.setattr(module.time, "clock_gettime", lambda clock: now[0] if clock == time.CLOCK_BOOTTIME else 0.0)
    lease = Lease()
    heard = lease.renew(0.0, 25)
    assert not lease.holds()
    now[0] += 5
    heard = lease.renew(heard, 25)
    now[0] += 19.9
    assert lease.holds()
    now[0] += 0.2
    assert not lease.holds()
    # What was under way when the host was cut off arrives once it is back.
    now[0] += 60
    late = lease.renew(heard, 25)
    assert not lease.holds()
    lease.renew(late, 25)
    assert lease.holds()
