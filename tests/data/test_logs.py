from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data import logs
from phalanx.data.logs import LINE_BYTES, LogLine

AT = "2026-11-23T10:00:{:06.3f}456789Z"
EPOCH = int(datetime.fromisoformat("2026-11-23T10:00:00+00:00").timestamp() * 1000)


def record(text, end="F", stream="stdout", at=0.0):
    content = text.encode() if isinstance(text, str) else text
    return f"{AT.format(at)} {stream} {end} ".encode() + content + b"\n"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ctr.log"


def texts(path, offset=0, limit=1000, final=False):
    lines, offset = logs.read(path, offset, limit, final=final)
    return [line.text for line in lines], offset


def test_a_line_has_its_time_in_milliseconds(file):
    file.write_bytes(record("hello  world", at=1.25) + b"2026-11-23T12:00:02.5+02:00 stderr F err\n")
    assert logs.read(file, 0, 10) == (
        [LogLine(EPOCH + 1250, "hello  world"), LogLine(EPOCH + 2500, "err")],
        file.stat().st_size,
    )


def test_no_file_yet(file):
    assert logs.read(file, 7, 10) == ([], 7)


def test_reading_goes_on_where_it_stopped(file):
    file.write_bytes(record("a"))
    first, offset = texts(file)
    with file.open("ab") as out:
        out.write(record("b") + record("c"))
    second, offset = texts(file, offset, limit=1)
    third, offset = texts(file, offset)
    assert (first, second, third, offset) == (["a"], ["b"], ["c"], file.stat().st_size)


def test_pieces_are_joined_once_the_line_ends(file):
    file.write_bytes(record("one ", "P") + record("two ", "P"))
    assert texts(file) == ([], 0)
    with file.open("ab") as out:
        out.write(record("three") + record("next"))
    assert texts(file)[0] == ["one two three", "next"]


def test_streams_that_are_interleaved_stay_apart(file):
    file.write_bytes(record("o1 ", "P") + record("e1 ", "P", "stderr") + record("o2") + record("e2", "F", "stderr"))
    assert texts(file)[0] == ["o1 o2", "e1 e2"]


def test_an_incomplete_last_line_waits_unless_no_more_can_come(file):
    file.write_bytes(record("a") + record("piece", "P") + record("torn")[:-4])
    done, offset = texts(file)
    assert (done, offset) == (["a"], len(record("a")))
    assert texts(file, offset) == ([], offset)
    assert texts(file, offset, final=True) == (["piecet"], file.stat().st_size)


def test_a_progress_bar_shows_before_it_ends(file):
    file.write_bytes(b"".join(record(f"\r{i}%", "P", "stderr", at=i / 10) for i in range(50)) + record("other", at=7))
    found, _ = texts(file)
    assert "".join(found[:2]).startswith("\r0%\r1%")
    assert "other" in found


def test_invalid_bytes_are_replaced_and_empty_lines_left_out(file):
    file.write_bytes(record(b"a\xff\xfe\x00b") + record("") + record("\r") + record("c\r"))
    assert texts(file)[0] == ["a\ufffd\ufffd\ufffdb", "c"]


def test_nothing_but_empty_lines_does_not_look_like_the_end(file):
    file.write_bytes(record("") * 40_000 + record("last"))
    assert texts(file) == (["last"], file.stat().st_size)


def test_a_long_line_is_split_between_characters(file):
    text = "€" * 300_000
    pieces = [text[i : i + 2000] for i in range(0, len(text), 2000)]
    file.write_bytes(b"".join(record(p, "P") for p in pieces[:-1]) + record(pieces[-1]) + record("next"))
    found, offset = texts(file)
    assert "".join(found) == text + "next"
    assert found[-1] == "next"
    assert max(len(t.encode()) for t in found) <= LINE_BYTES
    assert offset == file.stat().st_size


def test_a_record_that_is_none_is_text(file):
    file.write_bytes(record("a", at=3) + b"torn by a crash\n2026 stdout F x\n" + b"y" * (3 << 20) + b"\n" + record("b"))
    lines, offset = [], 0
    while True:
        more, offset = logs.read(file, offset, 100)
        if not more:
            break
        lines += more
    joined = "".join(line.text for line in lines)
    assert joined == "atorn by a crash2026 stdout F x" + "y" * (3 << 20) + "b"
    assert lines[1].timestamp == EPOCH + 3000


def test_two_streams_that_never_end_a_line_hold_nothing_up(file):
    file.write_bytes(b"".join(record("x" * 8000, "P", "stdout") + record("y" * 8000, "P", "stderr") for _ in range(200)))
    found, offset = texts(file)
    assert found
    assert offset > 0


@given(
    st.lists(st.tuples(st.text(max_size=20), st.sampled_from("PF"), st.sampled_from(["stdout", "stderr"]), st.integers(0, 9))),
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(1, 5),
)
def test_every_byte_comes_exactly_once_however_the_file_grows(tmp_path_factory, records, steps, limit):
    file = tmp_path_factory.mktemp("log") / "ctr.log"
    seconds = 0
    whole, expected = b"", {"stdout": "", "stderr": ""}
    for text, end, stream, delay in records:
        clean = "".join(c for c in text if c not in "\n\r\0" and not "\ud800" <= c <= "\udfff")
        seconds = min(seconds + delay, 59)
        marked = "".join(("<" if stream == "stdout" else ">") + c for c in clean)
        whole += record(marked, end, stream, at=float(seconds))
        expected[stream] += marked
    file.touch()
    found, offset, written = [], 0, 0

    def drain(final):
        nonlocal offset
        while True:
            lines, offset_now = logs.read(file, offset, limit, final=final)
            assert offset_now >= offset
            offset = offset_now
            found.extend(line.text for line in lines)
            if not lines:
                return

    for step in steps:
        with file.open("ab") as out:
            out.write(whole[written : written + step])
            written = min(written + step, len(whole))
        drain(False)
    with file.open("ab") as out:
        out.write(whole[written:])
    drain(True)
    assert offset == len(whole)
    for stream, mark in (("stdout", "<"), ("stderr", ">")):
        assert "".join(text for text in found if text[0] == mark) == expected[stream]
