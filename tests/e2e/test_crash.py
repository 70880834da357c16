"""Any process killed at any time over a queue of jobs: nothing lost, doubled, in the clear, or left behind."""

from e2e.crash import crash


def test_random_kills_lose_no_job_and_leave_nothing(own_phalanx):
    found = crash(own_phalanx, seconds=30, seed=9, kills=12)
    assert found.wrong == [], str(found)
    assert found.jobs
    # What is left on the host the fixture looks at, once it has stopped the service.
