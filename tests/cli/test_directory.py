"""Whose a data directory is, and what may lie in it."""

import pytest

from phalanx.cli.directory import foreign, make_private

USUAL = (
    *("lock", "lock.2", "starting.lock", "agent.log", "s3.log", "ray.log", "s3.port", "s3.tls.port", "s3-authority.pem"),
    *("phalanx.db", "phalanx.db-wal", "phalanx.db-shm", "database", "term", "zone", "credentials", "credentials.new"),
    *("evidence.key", "identity.key", "root.key", "metrics.token", "endpoints.json", "endpoints.new", "sagemaker-sdk.yaml"),
    *("root.key.new", "root.new", "metrics.token.new", "metrics.new", "endpoints.json.new", "database.new", "term.new"),
    *("sagemaker-sdk-0123456789ab.yaml", "audit/", "audit.2/", "certificates/", "images/", "incoming/", "instances/"),
    *("lost+found/", "ray/", "s3/", "tls/"),
)


@pytest.mark.parametrize(
    ("held", "private"),
    [
        ((), True),
        (("lost+found/",), True),
        (("lock", "s3/"), True),
        (("phalanx.db",), True),
        (USUAL, True),
        (("another's",), False),
        ((*USUAL, "another's"), False),
        (("lock/",), False),
        (("s3",), False),
    ],
)
def test_a_data_directory_that_is_there_is_made_private_unless_it_holds_what_is_not_the_services(tmp_path, held, private):
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o755)
    for name in held:
        (directory / name).mkdir() if name.endswith("/") else (directory / name).touch()
    assert make_private(directory) == private
    assert directory.stat().st_mode & 0o777 == (0o700 if private else 0o755)


def test_a_directory_that_others_use_stays_theirs_at_every_start(tmp_path):
    strangers, everybodys = tmp_path / "strangers", tmp_path / "everybodys"
    strangers.mkdir()
    strangers.chmod(0o755)
    (strangers / "another's").touch()
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    for _ in range(2):
        for directory, mode in ((strangers, 0o755), (everybodys, 0o1777)):
            assert not make_private(directory)
            assert directory.stat().st_mode & 0o7777 == mode
            # As a start leaves it.
            for name in ("lock", "phalanx.db"):
                (directory / name).touch()
    assert foreign(strangers) == ["another's"]


def test_a_data_directory_is_made_for_its_owner_alone(tmp_path):
    assert make_private(tmp_path / "new" / "data")
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700
