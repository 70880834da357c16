"""Many jobs at once: all end right, in order, within the host's memory."""

from sqlalchemy import select

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create, database, load, signer, wait_for
from phalanx.jobs.manager import RESERVED_BYTES, Manager
from phalanx.node.messages import HOST_BYTES, Phase
from phalanx.store.jobs import TrainingJob

__all__ = ["database", "signer"]
PLACES = 6


class Watched(Manager):
    """Remembers in which order jobs were let in."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.order = []

    def _run(self, name, memory):
        self.order.append(name)
        super()._run(name, memory)


class SomeFail(StubFleet):
    """The containers of every tenth job fail."""

    def advance(self, ids, goal):
        super().advance(ids, goal)
        if goal == Phase.RUNNING and self.specs[ids[0]].job.endswith("0"):
            for id_ in ids:
                self.exit(id_, 1)


def test_200_jobs_at_once_end_right_in_order_within_the_hosts_memory(database, signer):
    fleet = SomeFail(Script(), memory=HOST_BYTES + PLACES * RESERVED_BYTES)
    names = [f"job-{number:03d}" for number in range(200)]
    for number, name in enumerate(names):
        create(database, name, instances=1 + number % 3, encrypted=False)
    manager = Watched(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, names[-1]).stage == "ended" and not unfinished(database), 120)
    finally:
        manager.close()
    with database.read() as session:
        ends = dict(session.execute(select(TrainingJob.name, TrainingJob.status)).all())
    assert ends == {name: "Failed" if name.endswith("0") else "Completed" for name in names}
    assert manager.order == names
    assert fleet.most <= PLACES
    assert fleet.present == set()


def unfinished(database):
    with database.read() as session:
        return session.scalar(select(TrainingJob.name).where(TrainingJob.stage != "ended").limit(1))
