"""The control plane's images, given to hosts of its fleet: whole and unchanged, or not at all."""

from types import SimpleNamespace

import pytest

from phalanx.fleet.ray.credentials import Authority, environment
from phalanx.node.depot import MISSING, Certificates, Depot
from phalanx.node.messages import Offer
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
