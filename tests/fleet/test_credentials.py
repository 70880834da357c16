"""What hosts are told apart from strangers by is made once, lasts, and is not taken where it is not whole."""

import pytest

from phalanx.fleet.base import FleetError
from phalanx.fleet.ray.credentials import Authority, Invitation, environment

KEPT = ("token", "authority.key", "authority.pem")


def test_what_is_made_is_on_the_disk_and_used_again(tmp_path, synced):
    directory = tmp_path / "ray"
    invitations = [Authority(directory).invite("10.0.0.1:1", "10.0.0.2", None) for _ in range(2)]
    for name in KEPT:
        assert (directory / name).stat().st_ino in synced
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    assert invitations[0].token == invitations[1].token
    assert invitations[0].authority == invitations[1].authority
    assert invitations[0].key != invitations[1].key
    invitations[0].save(tmp_path / "invitation")
    assert Invitation.load(tmp_path / "invitation") == invitations[0]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("size", [0, 20])
def test_a_file_that_is_cut_short_invites_nobody(tmp_path, name, size):
    """As a loss of power may have left it at the first start of an earlier version."""
    directory = tmp_path / "ray"
    Authority(directory)
    (directory / name).write_bytes((directory / name).read_bytes()[:size])
    with pytest.raises(
        FleetError, match=r"ray does not hold .*: bring it back from a backup, or remove it and invite all hosts anew"
    ):
        Authority(directory).invite("10.0.0.1:1", "10.0.0.2", None)


def test_an_authority_with_anothers_key_invites_nobody(tmp_path):
    for name in ("ray", "other"):
        Authority(tmp_path / name)
    (tmp_path / "other/authority.key").replace(tmp_path / "ray/authority.key")
    with pytest.raises(FleetError, match="the authority's key is not that of its certificate"):
        Authority(tmp_path / "ray").invite("10.0.0.1:1", "10.0.0.2", None)


def test_what_ray_is_told_to_read_lies_beside_the_authority_and_lasts_as_it_does(tmp_path, synced):
    directory = tmp_path / "ray"
    told = environment(Authority(directory).invite("10.0.0.1:1", "10.0.0.1", None), directory)
    assert told["RAY_AUTH_TOKEN_PATH"] == str(directory / "token")
    assert {path.stat().st_ino for path in directory.iterdir()} <= synced
    Authority(directory).invite("10.0.0.1:1", "10.0.0.2", None)
