"""How the images of a host's jobs come into its store: built, fetched from a registry, given by the control plane, or there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import structlog

from phalanx.algorithms import catalog
from phalanx.node.depot import MISSING
from phalanx.node.errors import InstanceError
from phalanx.node.messages import InstanceSpec, Offer
from phalanx.node.names import Names
from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images
from phalanx.runtime.podman import ImageError

RECEIVE_SECONDS = 180.0
"""How long it is tried anew to have an image of the control plane's."""
RETRY_SECONDS = 2.0

log = structlog.get_logger()


class Supply:
    """Sees to it that a host's store has what instances run; images may be fetched from `registries`, by host and port.

    Methods may be called from any thread.
    """

    def __init__(self, images: Images, registries: frozenset[str], names: Names) -> None:
        self._images = images
        self._registries = registries
        self._names = names
        # Ids of the images that were fetched for running jobs: a tag that moves meanwhile must not part a job's instances.
        self._fetched: dict[str, str] = {}
        self._turn = threading.Lock()

    def has(self, image: str) -> bool:
        """Whether the store has an image of that name, or it may be fetched from its registry."""
        return self._may_fetch(image) or self._images.has(image)

    def bring(self, spec: InstanceSpec, cancelled: threading.Event, fetching: Callable[[bool], None]) -> str:
        """The name of an instance's image in the store, once it is there; of no use where it is cancelled.

        `fetching` is told when the control plane's image begins to be fetched, and when it is there. Raises InstanceError,
        ImageError.
        """
        algorithm = catalog.find(spec.image)
        if spec.offer is not None and (algorithm is not None or not self._may_fetch(spec.image)):
            if not self._images.has(spec.offer.id):
                fetching(True)
                self._receive(spec, spec.offer, cancelled)
                fetching(False)
            return spec.offer.id
        if algorithm is not None:
            return Builder(self._images).build(f"phalanx/{algorithm.name}", algorithm.contexts, lambda _: None)
        if self._may_fetch(spec.image):
            return self._fetch(spec, cancelled)
        if not self._images.has(spec.image):
            raise InstanceError(f"ClientError: Cannot find the training image {spec.image} on the host.")
        return spec.image

    def forget(self, job: str) -> None:
        """A job has ended here: another one of that name may be given what its image's tag means then."""
        self._fetched.pop(job, None)

    def _may_fetch(self, image: str) -> bool:
        """Whether an image's registry is one of those that images may be fetched from."""
        return image.partition("/")[0] in self._registries

    def _fetch(self, spec: InstanceSpec, cancelled: threading.Event) -> str:
        with self._my_turn(cancelled) as mine:
            if mine and spec.job not in self._fetched:
                try:
                    fetched = self._images.pull(spec.image, cancelled.is_set)
                except ImageError as error:
                    raise InstanceError(f"ClientError: Cannot fetch the training image {spec.image}: {error}") from error
                if fetched is not None:
                    self._fetched[spec.job] = fetched
            return self._fetched.get(spec.job, spec.image)

    @contextlib.contextmanager
    def _my_turn(self, cancelled: threading.Event) -> Iterator[bool]:
        """One at a time: instances of a host want the same, most often. False where it is cancelled while another fetches."""
        while not cancelled.is_set():
            if self._turn.acquire(timeout=RETRY_SECONDS):
                try:
                    yield True
                finally:
                    self._turn.release()
                return
        yield False

    def _receive(self, spec: InstanceSpec, offer: Offer, cancelled: threading.Event) -> None:
        """Have the control plane's image. It may be away for a while, as when it is started again. Raises InstanceError."""
        away: float | None = None
        while not cancelled.is_set():
            try:
                with self._my_turn(cancelled) as mine:
                    begun = time.monotonic()
                    if mine:
                        self._images.receive(
                            offer.name, offer.id, self._names.certificates, self._names.incoming, cancelled.is_set
                        )
                return
            except ImageError as error:
                if MISSING in str(error):
                    reason = f"ClientError: Cannot find the training image {spec.image}: it was removed meanwhile."
                    raise InstanceError(reason) from error
                if "no space left" in str(error):
                    raise InstanceError(
                        "CapacityError: Unable to provision requested ML compute capacity: a host has no room on its disk for"
                        f" the training image {spec.image}."
                    ) from error
                tried = time.monotonic() - begun
                # What went on for so long was cut short, and not kept from it from the beginning.
                away = 0.0 if away is None or tried > RECEIVE_SECONDS else away + RETRY_SECONDS + tried
                if away > RECEIVE_SECONDS:
                    raise InstanceError(
                        f"InternalServerError: Cannot bring the training image {spec.image} to a host: {error}"
                    ) from error
                log.warning("the image is not here yet", image=spec.image, instance=spec.id, reason=str(error))
            cancelled.wait(RETRY_SECONDS)
