"""Which services may run on one data directory."""

import os

import pytest
import typer

from phalanx.cli import replica
from phalanx.cli.replica import numbered, place

URL = "postgresql://phalanx@localhost/phalanx"


def test_one_service_has_a_data_directory_whose_jobs_are_in_a_file(tmp_path, capsys):
    number, lock = place(tmp_path, None)
    assert number == 1
    with pytest.raises(typer.Exit):
        place(tmp_path, None)
    assert "Give this one its own: --data-dir DIR" in capsys.readouterr().err
    os.close(lock)
    os.close(place(tmp_path, None)[1])


def test_several_share_one_whose_jobs_are_in_the_same_postgresql(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replica, "REPLICAS", 3)
    (tmp_path / "database").write_text(URL)
    first, second, third = place(tmp_path, URL), place(tmp_path, None), place(tmp_path, URL)
    assert [number for number, _ in (first, second, third)] == [1, 2, 3]
    with pytest.raises(typer.Exit):
        place(tmp_path, "postgresql://phalanx@elsewhere/phalanx")
    with pytest.raises(typer.Exit):
        place(tmp_path, None)
    assert "3 services run on" in capsys.readouterr().err
    os.close(second[1])
    again = place(tmp_path, None)
    assert again[0] == 2
    for _, lock in (first, again, third):
        os.close(lock)


def test_what_is_a_replicas_own_has_its_number():
    assert [numbered("audit", number) for number in (1, 2)] == ["audit", "audit.2"]
