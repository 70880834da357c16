"""What engines have counted outlives them."""

from __future__ import annotations

from pathlib import Path

from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import Totals
from phalanx.ipsec.tally import FILE, Counts, Tally


def counts(number: int, peer: str = "10.0.0.2") -> Counts:
    return Counts({peer: Totals(number, number, 100 * number, 100 * number, 1)}, {"integrity": number}, Work(0.5, 0.25, number))


def test_the_counts_of_engines_that_are_gone_are_added(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    assert tally.age() is None
    assert tally.add(10, counts(3)) == counts(3)
    assert tally.add(10, counts(5)) == counts(5)
    later = Tally(tmp_path)
    assert later.age() is not None
    # One that is begun anew has counted less, as much, or more.
    both = later.add(20, counts(7, "10.0.0.3"))
    assert both == Counts(
        {"10.0.0.2": Totals(5, 5, 500, 500, 1), "10.0.0.3": Totals(7, 7, 700, 700, 1)},
        {"integrity": 12},
        Work(1.0, 0.5, 12),
    )
    assert later.add(20, counts(7, "10.0.0.3")) == both
    assert later.add(30, counts(1)).totals["10.0.0.2"] == Totals(6, 6, 600, 600, 2)


def test_where_there_is_no_room_the_counts_are_kept_with_a_later_report(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    in_the_way = tmp_path / f"{FILE}.new"
    in_the_way.mkdir()
    assert tally.add(10, counts(3)) == counts(3)
    in_the_way.rmdir()
    tally.add(10, counts(4))
    assert Tally(tmp_path).add(20, counts(1)).drops == {"integrity": 5}


def test_a_late_word_of_an_engine_that_is_gone_counts_once(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.add(10, counts(3))
    tally.add(20, counts(4))
    assert tally.add(10, counts(3)).drops == {"integrity": 7}
    assert tally.add(20, counts(5)).drops == {"integrity": 8}


def test_nothing_is_kept_of_what_has_ended(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.add(10, counts(3))
    tally.forget()
    assert list(tmp_path.iterdir()) == []
    assert tally.add(10, counts(1)) == counts(1)
