import io
import os
import socket
import stat
import subprocess
import tarfile
import time
from types import SimpleNamespace

import pytest

from phalanx.data import artifacts, objects, tree
from phalanx.data.model import ObjectStore, Output
from phalanx.data.objects import DataError, list_objects


@pytest.fixture
def roots(tmp_path):
    """Workspaces of two hosts, algo-1 and algo-2."""
    for name in ("algo-1", "algo-2"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "output/data").mkdir(parents=True)
    return tmp_path / "algo-1", tmp_path / "algo-2"


def send(store, bucket, roots, compression="GZIP"):
    return artifacts.upload(store, Output("job", f"s3://{bucket[0]}/out/", compression), roots)


def archive(bucket, uri):
    name, s3 = bucket
    body = s3.get_object(Bucket=name, Key=uri.removeprefix(f"s3://{name}/"))["Body"].read()
    return tarfile.open(fileobj=io.BytesIO(body), mode="r:gz")


def contents(tar):
    return {m.name: tar.extractfile(m).read() if m.isfile() else m.type for m in tar.getmembers()}


def keys(store, bucket):
    return [o.key for o in list_objects(store, f"s3://{bucket[0]}")]


def test_hosts_are_merged_and_the_first_one_wins(store, bucket, roots):
    one, two = roots
    (one / "model/shared").write_text("one")
    (two / "model/shared").write_text("two")
    (two / "model/sub").mkdir()
    (two / "model/sub/own").write_bytes(b"x" * 100_000)
    (one / "model/sub").mkdir()
    uri = send(store, bucket, roots)
    assert uri == f"s3://{bucket[0]}/out/job/output/model.tar.gz"
    with archive(bucket, uri) as tar:
        assert contents(tar) == {"shared": b"one", "sub": tarfile.DIRTYPE, "sub/own": b"x" * 100_000}
        assert {(m.uid, m.gid, m.uname) for m in tar.getmembers()} == {(0, 0, "")}
    assert keys(store, bucket) == ["out/job/output/model.tar.gz"]


def test_output_data_has_its_own_archive(store, bucket, roots):
    (roots[1] / "output/data/report.txt").write_text("r")
    (roots[1] / "output/failure").write_text("not data")
    send(store, bucket, roots)
    assert keys(store, bucket) == ["out/job/output/model.tar.gz", "out/job/output/output.tar.gz"]
    with archive(bucket, f"s3://{bucket[0]}/out/job/output/output.tar.gz") as tar:
        assert contents(tar) == {"report.txt": b"r"}


def test_an_empty_model_is_an_empty_archive(store, bucket, roots):
    with archive(bucket, send(store, bucket, roots)) as tar:
        assert tar.getmembers() == []


@pytest.mark.shows("OutputDataConfig.CompressionType")
def test_without_compression_the_files_are_objects(store, bucket, roots):
    (roots[0] / "model/a").write_text("1")
    (roots[1] / "model/d").mkdir()
    (roots[1] / "model/d/b").write_text("2")
    (roots[1] / "model" / os.fsdecode(b"n\xff")).write_text("3")
    (roots[1] / "output/data/r").write_text("4")
    (roots[1] / "model/link").symlink_to("d/b")
    assert send(store, bucket, roots, "NONE") == f"s3://{bucket[0]}/out/job/output/model"
    base = "out/job/output/"
    assert keys(store, bucket) == [base + "data/r", base + "model/a", base + "model/d/b", base + "model/n\ufffd"]


def test_repeating_overwrites(store, bucket, roots):
    (roots[0] / "model/m").write_text("half")
    send(store, bucket, roots)
    (roots[0] / "model/m").write_text("whole")
    with archive(bucket, send(store, bucket, roots)) as tar:
        assert contents(tar) == {"m": b"whole"}


def test_a_large_model_streams_in_parts(store, bucket, roots):
    content = os.urandom(40 << 20)
    (roots[0] / "model/m").write_bytes(content)
    with archive(bucket, send(store, bucket, roots)) as tar:
        assert tar.extractfile("m").read() == content


def test_an_archive_is_never_longer_than_its_parts_were_made_for(store, bucket, roots, monkeypatch):
    """S3 takes 10,000 parts: of how many bytes has to be known before the archive is made. Holes take no memory."""
    told, put = [], artifacts.put
    monkeypatch.setattr(artifacts, "put", lambda *arguments: (told.append(arguments[-1]), put(*arguments)))
    deep = roots[0] / "model" / "/".join(["d" * 200] * 4)
    deep.mkdir(parents=True)
    for number in range(200):
        (deep / str(number)).write_bytes(b"")
    (roots[0] / "model/weights").write_bytes(os.urandom(3 << 20))
    with (roots[0] / "model/hole").open("wb") as file:
        file.truncate(100 << 20)
    uri = send(store, bucket, roots)
    length = bucket[1].head_object(Bucket=bucket[0], Key=uri.removeprefix(f"s3://{bucket[0]}/"))["ContentLength"]
    assert 3 << 20 < length <= told[0] < 6 << 20


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_nothing_of_the_host_gets_into_an_artifact(store, bucket, roots, tmp_path, compression):
    one, two = roots
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("root's secret")
    (one / "model/absolute").symlink_to(outside / "secret")
    (one / "model/up").symlink_to("../../outside/secret")
    (one / "model/folder").symlink_to(outside)
    (one / "model/good").write_text("good")
    (one / "model/inside").symlink_to("good")
    os.mkfifo(one / "model/fifo")
    os.mknod(one / "model/device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(one / "model/socket"))
    os.rename(one / "output/data", one / "was")
    (one / "output/data").symlink_to(outside)
    os.rename(two / "output", two / "was")
    (two / "output").symlink_to(tmp_path)
    (tmp_path / "data").symlink_to(outside)
    os.rename(two / "model", two / "model-was")
    (two / "model").symlink_to(outside)
    uri = send(store, bucket, roots, compression)
    if compression == "NONE":
        assert keys(store, bucket) == ["out/job/output/model/good"]
    else:
        assert keys(store, bucket) == ["out/job/output/model.tar.gz"]
        with archive(bucket, uri) as tar:
            assert contents(tar) == {"good": b"good", "inside": tarfile.SYMTYPE}
            tar.extractall(tmp_path / "unpacked")


def test_links_that_are_kept_lead_nowhere_outside_by_any_way(store, bucket, roots, tmp_path):
    one, two = roots
    deep = "a/b/c/d/e/f/g/h/i/j"
    (one / "model" / deep).mkdir(parents=True)
    (two / "model" / deep / "other").mkdir(parents=True)
    (one / "model/good").write_text("good")
    kept = {
        f"{deep}/up": "/".join([".."] * 10),
        "a/good": "../good",
        "a/b/again": "./.././good",
        "down": f"{deep}/up/a/good",
        "a/chain": "b/again",
        "a/b/self": "..//b",
        "x": "a/x",
        "a/x": "../x",
    }
    left_out = {
        "config.json": f"{deep}/up/" + "../" * 10 + "etc/hostname",
        "beside": f"{deep}/up/../model/good",
        "a/out": "../../out",
        "a/turn": "../a/../../out",
        "a/later": "b/self/../../..",
        "top": "..",
        "absolute": "/etc/hostname",
    }
    for path, target in {**kept, **left_out}.items():
        (one / "model" / path).symlink_to(target)
    (two / "model" / deep / "other/up").symlink_to("/".join([".."] * 11))
    uri = send(store, bucket, roots)
    (tmp_path / "unpacked").mkdir()
    with archive(bucket, uri) as tar:
        links = {member.name: member.linkname for member in tar.getmembers() if member.issym()}
        (tmp_path / "model.tar.gz").write_bytes(
            bucket[1].get_object(Bucket=bucket[0], Key=keys(store, bucket)[0])["Body"].read()
        )
    assert links == {**kept, f"{deep}/other/up": "/".join([".."] * 11)}
    subprocess.run(["tar", "xzf", tmp_path / "model.tar.gz", "-C", tmp_path / "unpacked"], check=True)
    for path in links:
        assert os.path.realpath(tmp_path / "unpacked" / path).startswith(str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/down").read_text() == (tmp_path / "unpacked/a/chain").read_text() == "good"


def test_a_link_of_one_host_is_not_written_through_by_another(store, bucket, roots):
    one, two = roots
    (one / "model/real").mkdir()
    (one / "model/x").symlink_to("real")
    (two / "model/x").mkdir()
    (two / "model/x/file").write_text("through")
    with archive(bucket, send(store, bucket, roots)) as tar:
        assert contents(tar) == {"real": tarfile.DIRTYPE, "x": tarfile.SYMTYPE}


def test_a_file_that_becomes_a_link_while_it_is_read_is_not_followed(store, bucket, roots, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("root's secret")
    target = roots[0] / "model/m"
    target.write_text("mine")
    listed = tree.open_file

    def swap(entry):
        target.unlink()
        target.symlink_to(tmp_path / "secret")
        return listed(entry)

    monkeypatch.setattr(tree, "open_file", swap)
    with pytest.raises(DataError, match=r"Artifact upload failed"):
        send(store, bucket, roots)
    assert keys(store, bucket) == []


def test_an_archive_that_cannot_be_made_is_not_uploaded_in_part(store, bucket, roots):
    deep = roots[0] / "model"
    (deep / "first").write_bytes(os.urandom(20 << 20))
    for _ in range(70):
        deep = deep / "d"
        deep.mkdir()
    threads = os.listdir("/proc/self/task")
    with pytest.raises(DataError, match=r"^ClientError: Data upload failed:directories are nested"):
        send(store, bucket, roots)
    assert keys(store, bucket) == []
    for _ in range(200):  # a thread that was waited for is still listed until the kernel has done with it
        if len(os.listdir("/proc/self/task")) <= len(threads):
            break
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/task")) <= len(threads)


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_files_that_claim_more_than_the_disk_has_are_not_read(store, bucket, roots, compression):
    disk = os.statvfs(roots[0])
    with (roots[1] / "model/hole").open("wb") as file:
        file.truncate(disk.f_blocks * disk.f_frsize + 1)
    with pytest.raises(DataError, match="claim more than the disk has"):
        send(store, bucket, roots, compression)
    assert keys(store, bucket) == []


def test_each_host_may_fill_its_own_disk(roots, monkeypatch):
    disk = SimpleNamespace(f_blocks=10, f_frsize=1)
    monkeypatch.setattr(os, "fstatvfs", lambda _: disk)
    for root in roots:
        (root / "model" / root.name).write_text("x" * 10)
    assert [entry.path for entry in tree.entries(roots, "model")] == ["algo-1", "algo-2"]


@pytest.mark.parametrize("name", ["n" * 250, os.fsdecode(b"\xff" * 250)])
def test_paths_that_no_key_is_long_enough_for_are_not_walked(store, bucket, roots, name):
    inner = roots[0] / "model"
    for _ in range(5):
        inner = inner / name
        inner.mkdir()
    with pytest.raises(DataError, match=r"^ClientError: .*a path is longer than 1024 bytes") as caught:
        send(store, bucket, roots)
    assert str(caught.value).encode()


def test_more_names_than_memory_is_for_are_not_listed(roots, monkeypatch):
    monkeypatch.setattr(tree, "NAMES_BYTES", 1000)
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("it went on"))
    for number in range(8):
        (roots[0] / "model" / os.fsdecode(b"\xff%d" % number)).touch()
    with pytest.raises(DataError, match=r"^ClientError: .*too many files") as caught:
        list(tree.entries(roots, "model"))
    assert str(caught.value).encode()


@pytest.mark.parametrize("name", ["hole", "fifo"])
def test_a_name_that_is_not_utf8_can_be_told(store, bucket, roots, monkeypatch, name):
    file = roots[0] / "model" / os.fsdecode(b"\xff\xfe")
    file.write_text("x")
    if name == "hole":
        os.truncate(file, 1 << 42)
    else:
        real = os.open
        monkeypatch.setattr(
            os, "open", lambda path, *rest, **more: real("/dev/null" if path == file.name else path, *rest, **more)
        )
    with pytest.raises(DataError, match=r"\ufffd\ufffd (claim|changed)") as caught:
        send(store, bucket, roots, "NONE")
    assert str(caught.value).encode()


def test_open_files_are_closed(store, bucket, roots):
    (roots[0] / "model/d").mkdir()
    (roots[0] / "model/d/m").write_text("m")
    send(store, bucket, roots)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        send(store, bucket, roots)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_bucket_that_is_not_there_and_a_store_that_does_not_answer(store, bucket, roots, free_port, monkeypatch):
    monkeypatch.setattr(objects, "PATIENCE", 1)
    (roots[0] / "model/m").write_bytes(os.urandom(40 << 20))
    with pytest.raises(DataError, match=r"^ClientError: Artifact upload failed:NoSuchBucket"):
        send(store, ("no-such-bucket",), roots)
    nobody = ObjectStore(f"http://127.0.0.1:{free_port()}", "us-east-1", "a", "b")
    with pytest.raises(DataError, match=r"^InternalServerError: Artifact upload failed:.*cannot be reached"):
        send(nobody, bucket, roots)
