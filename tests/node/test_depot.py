"""The control plane's images, given to hosts of its fleet: whole and unchanged, or not at all; and what a job is told then."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from node.test_protocol import spec
from phalanx.fleet.ray.credentials import Authority, environment
from phalanx.node import instance as instances
from phalanx.node.depot import MISSING, Certificates, Depot
from phalanx.node.instance import Instance, InstanceError, Shared
from phalanx.node.messages import Offer
from phalanx.node.names import Names
from phalanx.runtime.images import Images
from phalanx.runtime.podman import ImageError, Podman
from stores import discard, stock


def certified(directory):
    """A certificate of the authority kept in `directory`."""
    directory.mkdir(exist_ok=True)
    environment(Authority(directory / "ca").invite("10.0.0.1:1", "127.0.0.1", None), directory / "own")
    own = directory / "own"
    return Certificates(own / "authority.pem", own / "host.pem", own / "host.key")


@pytest.fixture(scope="module")
def depot(tmp_path_factory):
    directory = tmp_path_factory.mktemp("depot")
    store = stock(directory, "one:1", "two:1")
    depot = Depot(store, directory / "laid-out", "127.0.0.1", 0, certified(directory / "fleet"))
    depot.open()
    yield SimpleNamespace(depot=depot, directory=directory, podman=Podman(store, directory / "podman"))
    discard(store)


@pytest.fixture
def host(depot, tmp_path):
    """What a host that has no image does to have one."""
    certificates, images = tmp_path / "certificates", Images(tmp_path / "store", tmp_path / "podman")
    certified(depot.directory / "fleet").keep(certificates)

    def receive(offer, cancelled=lambda: False):
        images.receive(offer.name, offer.id, certificates, tmp_path / "incoming", cancelled)
        assert not (tmp_path / "incoming").exists()
        return images.id(offer.id)

    yield SimpleNamespace(receive=receive, certificates=certificates, images=images)
    discard(tmp_path / "store")


def test_an_image_that_was_changed_on_its_way_is_refused_and_a_whole_one_is_kept(depot, host):
    offer = depot.depot.offer("one:1")
    depot.depot.manifest(offer.id.removeprefix("sha256:"))
    (layer,) = [path for path in (depot.directory / "laid-out").glob("*/*") if path.stat().st_size > 1 << 20]
    content = bytearray(layer.read_bytes())
    content[700_000] ^= 1
    whole = layer.read_bytes()
    layer.write_bytes(content)
    with pytest.raises(ImageError, match=r"[Dd]igest"):
        host.receive(offer)
    assert host.images.listing() == []
    layer.write_bytes(whole)
    assert host.receive(offer, lambda: True) is None
    assert host.receive(offer) == offer.id
    # There already: nobody is asked.
    assert host.receive(Offer("127.0.0.1:1/phalanx:gone", offer.id)) == offer.id


def test_nothing_is_given_to_strangers_nor_taken_from_them(depot, host, tmp_path):
    certified(tmp_path / "strangers").keep(host.certificates)
    with pytest.raises(ImageError, match="certificate"):
        host.receive(depot.depot.offer("one:1"))


def test_an_image_that_is_gone_is_missed_in_so_many_words(depot, host):
    assert depot.depot.offer("nobody/has:this") is None
    offer = depot.depot.offer("two:1")
    depot.podman.run("image", "rm", "two:1")
    with pytest.raises(ImageError, match=MISSING):
        host.receive(offer)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"reading manifest: {MISSING}", "ClientError: Cannot find the training image xgboost"),
        ("write /x: no space left on device", "CapacityError: Unable to provision requested ML compute capacity"),
        ("dial tcp: connection refused", "InternalServerError: Cannot bring the training image xgboost to a host: dial tcp"),
    ],
)
def test_a_job_says_why_its_image_does_not_come(tmp_path, monkeypatch, said, told):
    attempts = []

    class Store:
        def has(self, name):
            return False

        def receive(self, *_):
            attempts.append(1)
            raise ImageError(said)

    monkeypatch.setattr(instances, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(instances, "RECEIVE_SECONDS", 0.05)
    shared = Shared(Names(tmp_path), None, Store(), None, None)
    with pytest.raises(InstanceError) as fault:
        Instance(replace(spec(), offer=Offer("10.0.0.1:1/phalanx:1", "sha256:1")), shared).load(
            threading.Event(), lambda _: None
        )
    assert str(fault.value).startswith(told)
    assert (len(attempts) > 1) == told.startswith("Internal")


def test_an_image_that_was_cut_short_after_long_is_waited_for_as_long_as_one_that_never_began(tmp_path, monkeypatch):
    attempts = []

    class Store:
        def has(self, name):
            return False

        def receive(self, *_):
            attempts.append(1)
            if len(attempts) == 1:
                time.sleep(0.3)
            raise ImageError("connection reset by peer")

    monkeypatch.setattr(instances, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(instances, "RECEIVE_SECONDS", 0.2)
    shared = Shared(Names(tmp_path), None, Store(), None, None)
    with pytest.raises(InstanceError, match="connection reset"):
        Instance(replace(spec(), offer=Offer("10.0.0.1:1/phalanx:1", "sha256:1")), shared).load(
            threading.Event(), lambda _: None
        )
    assert len(attempts) > 2
