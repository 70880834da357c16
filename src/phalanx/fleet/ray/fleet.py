"""The fleet across hosts. See `Fleet` for what the calls mean."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from phalanx.data.logs import LogLine
from phalanx.data.model import RoleCredentials
from phalanx.fleet.base import FleetError, NoRoom, Refused, Room, Unreachable
from phalanx.fleet.ray.bridge import Bridge
from phalanx.fleet.ray.host import RayHost
from phalanx.fleet.ray.ledger import Ledger, Place, Shelf
from phalanx.fleet.ray.placement import choose
from phalanx.fleet.waiting import Waiting
from phalanx.network.model import HOST_MTU, NO_EXITS, Exits, Overlay, Remote, SecurityGroup
from phalanx.node.agent import LOST_ARTIFACTS
from phalanx.node.messages import HOST_BYTES, Capacity, InstanceSpec, InstanceStatus, Measurement, Phase, Usage

LOOK_SECONDS = 0.5
"""How often it is asked which hosts there are."""
FACTS_SECONDS = 5.0
"""How often a host is asked what it has."""
LOST_SECONDS = 30.0
"""How long a host may be away until its instances count as lost."""
LEASE_SECONDS = LOST_SECONDS - 5.0
"""How long a host that was heard of writes its jobs' checkpoints, if it is heard of no more."""
REJOIN_SECONDS = 120.0
"""How long a host has that has left in order, since what it runs goes on; and hosts where it was Ray that was started anew: all
that they were part of has ended, and they see so in time."""

log = structlog.get_logger()


class RayFleet:
    """Hosts that have joined through Ray, and are given what they lack of the store `images`.

    `reserve` says how many bytes of memory an instance takes on its host.
    """

    def __init__(
        self,
        data_dir: Path,
        address: str,
        port: int,
        images: Path,
        shelf: Shelf,
        *,
        spread: bool,
        reserve: Callable[[InstanceSpec], int],
        term: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._bridge = Bridge(data_dir, address, port, images)
        self._ledger = Ledger(shelf)
        self._term = term
        self._spread = spread
        self._reserve = reserve
        self._hosts: dict[str, RayHost] = {}
        self._joined: dict[str, str] = {}
        """What the driver said of the hosts that are connected."""
        self._expected: dict[str, float] = {}
        """Until when those that are not may come back."""
        self._asked: dict[str, float] = {}
        self._busy: set[str] = set()
        """Nodes whose hosts are being taken up or asked."""
        self._belonging = threading.Lock()
        """Over which hosts are connected, and which are part of the fleet."""
        self._rules: dict[str, tuple[tuple[SecurityGroup, ...], Exits]] = {}
        self._placing = threading.Lock()
        self._pushing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._waiting = Waiting()
        self._closing = threading.Event()
        self._tender = threading.Thread(target=self._tend, name="hosts", daemon=True)

    def open(self, planned: Collection[str] | None = None) -> None:
        """Let hosts join; those of before are waited for while the service runs. Raises FleetError.

        Instances that are not `planned` are no job's, where that is said, and are taken down when their hosts join: a control
        plane that was brought back from a backup finds such.
        """
        self._ledger.load()
        if planned is not None:
            self._ledger.disown(planned)
        self._bridge.open()
        self._tender.start()

    def close(self) -> None:
        """Leave the hosts alone; they keep what runs, guarded, for the next control plane."""
        self._closing.set()
        if self._tender.is_alive():
            self._tender.join()
        with self._belonging:
            for host in self._hosts.values():
                host.close()
        self._bridge.close()

    def capacity(self) -> Capacity:
        """See Fleet."""
        found = self._capacities()
        if not found:
            raise Unreachable("All hosts of the fleet drain: run `phalanx host resume` on one")
        return Capacity(
            cpus=sum(each.cpus for each in found),
            memory=sum(each.memory - HOST_BYTES for each in found) + HOST_BYTES,
            gpus=sum(each.gpus for each in found),
            encrypted_disk=all(each.encrypted_disk for each in found),
            zones=None
            if any(each.zones is None for each in found)
            else tuple(zone for each in found for zone in each.zones or ()),
        )

    def rooms(self, *, draining: bool = False) -> list[Room]:
        """See Fleet."""
        return [Room.whole(capacity) for capacity in self._capacities(draining)]

    def has_image(self, image: str) -> bool:
        """See Fleet."""
        if self._bridge.offer(image) is not None:
            return True
        connected = [self._hosts[address] for address in list(self._joined)]
        if not connected:
            raise Unreachable("No host has joined the fleet")
        return all(host.has_image(image) for host in connected)

    def enforce(self, vpc_id: str, groups: Sequence[SecurityGroup], exits: Exits) -> None:
        """See Fleet."""
        self._rules[vpc_id] = (tuple(groups), exits)
        self._push(vpc_id)

    def place(self, specs: Sequence[InstanceSpec]) -> None:
        """See Fleet."""
        with self._placing:
            new = [spec for spec in specs if spec.id not in self._ledger.places]
            if new:
                self._ledger.put(self._choose(new))
        by_host: dict[str, list[InstanceSpec]] = {}
        for spec in specs:
            by_host.setdefault(self._ledger.places[spec.id].host, []).append(spec)
        # The narrowest way between any two of them: what a peer sends must fit all along.
        mtu = HOST_MTU if len(by_host) == 1 else min(self._ledger.hosts[address].mtu for address in by_host)
        offers = {image: self._bridge.offer(image) for image in {spec.image for spec in specs}}
        for vpc_id in {spec.vpc_id for spec in specs}:
            self._push(vpc_id)
        for address, here in by_host.items():
            self._host(address).place(
                [replace(spec, eni=replace(spec.eni, mtu=mtu), offer=offers[spec.image], leased=True) for spec in here]
            )

    def advance(self, ids: Sequence[str], goal: Phase) -> None:
        """See Fleet."""
        self._each(ids, lambda host, here: host.advance(here, goal))

    def lend(self, ids: Sequence[str], credentials: RoleCredentials) -> None:
        """See Fleet."""
        self._each(ids, lambda host, here: host.lend(here, credentials))

    def statuses(self, ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """See Fleet. While a host is away its instances are as they were last heard of."""
        found = {}
        for id_ in ids:
            place = self._ledger.places.get(id_)
            if place is None or place.lost:
                continue
            host = self._hosts.get(place.host)
            heard = {} if host is None else host.statuses([id_])
            if id_ in heard:
                found[id_] = heard[id_]
            elif place.host not in self._joined:
                found[id_] = InstanceStatus(id_, Phase.NEW)
        return found

    def wait(self, known: Mapping[str, InstanceStatus], timeout: float) -> None:
        """See Fleet."""
        self._waiting.until(lambda: self.statuses(list(known)) != known, known, timeout)

    def stop(self, ids: Sequence[str], grace: float) -> None:
        """See Fleet."""
        self._each(ids, lambda host, here: host.stop(here, grace))

    def logs(self, instance_id: str, offset: int, final: bool) -> tuple[list[LogLine], int]:
        """See Fleet."""
        place = self._ledger.places.get(instance_id)
        if place is None or place.lost:
            return [], offset
        return self._host(place.host).logs(instance_id, offset, final)

    def measure(self, ids: Sequence[str]) -> list[Measurement]:
        """See Fleet."""
        found = self._each(ids, lambda host, here: [replace(each, machine=host.address) for each in host.measure(here)])
        return [measurement for of_host in found for measurement in of_host]

    def usage(self, ids: Sequence[str]) -> list[Usage]:
        """See Fleet."""
        return [usage for of_host in self._each(ids, lambda host, here: host.usage(here)) for usage in of_host]

    def upload(self, ids: Sequence[str]) -> str:
        """See Fleet. The first instance's host uploads, after it was brought what lies on others."""
        places = [self._ledger.places.get(id_) for id_ in ids]
        if not places or any(place is None or place.lost for place in places):
            raise Refused(LOST_ARTIFACTS)
        to = self._host(self._ledger.places[ids[0]].host)
        for id_ in ids:
            host = self._host(self._ledger.places[id_].host)
            if host is not to:
                offset = 0
                while content := host.parcel(id_, offset):
                    to.deliver(ids[0], id_, offset, content)
                    offset += len(content)
                to.deliver(ids[0], id_, offset, b"")
        return to.upload(ids)

    def destroy(self, ids: Sequence[str]) -> None:
        """See Fleet. What is on a lost host is destroyed when that comes back."""
        here = [id_ for id_ in ids if id_ in self._ledger.places and not self._ledger.places[id_].lost]
        vpcs = {self._ledger.places[id_].vpc_id for id_ in here}
        self._each(here, self._destroy)
        for vpc_id in vpcs & self._vpcs():
            # Not worth a failure: nothing is there any more, and whoever is placed next brings it up to date.
            with contextlib.suppress(FleetError):
                self._push(vpc_id)

    def _destroy(self, host: RayHost, ids: Sequence[str]) -> None:
        host.destroy(ids)
        self._remove(ids)

    def _remove(self, ids: Iterable[str]) -> None:
        vpcs = {self._ledger.places[id_].vpc_id for id_ in ids}
        self._ledger.remove(ids)
        for vpc_id in vpcs - self._vpcs():
            self._rules.pop(vpc_id, None)
            self._pushing.pop(vpc_id, None)

    def _vpcs(self) -> set[str]:
        """VPCs that have instances anywhere."""
        return {place.vpc_id for place in self._ledger.places.values()}

    def _capacities(self, draining: bool = False) -> list[Capacity]:
        """What the hosts have that take instances; with `draining`, what all have. Raises Unreachable where there are none."""
        if self._tender.ident is None:
            # Another replica leads, and writes it.
            self._ledger.load()
        if not self._ledger.hosts:
            raise Unreachable("No host has joined the fleet: run `phalanx host join` on one")
        return [facts.capacity for facts in self._ledger.hosts.values() if draining or not facts.capacity.draining]

    def _choose(self, specs: Sequence[InstanceSpec]) -> dict[str, Place]:
        rooms = {}
        for address in list(self._joined):
            facts = self._hosts[address].facts()
            self._ledger.note(address, facts)
            if not facts.capacity.draining:
                rooms[address] = Room.whole(facts.capacity)
                for place in (self._ledger.places[id_] for id_ in self._ledger.on(address)):
                    rooms[address] = rooms[address].without(Room(place.memory, place.gpus))
        needs = [Room(self._reserve(spec), spec.limits.gpus, spec.zone) for spec in specs]
        spread = self._spread or any(spec.spread for spec in specs)
        chosen = choose(needs, rooms, spread)
        if chosen is None:
            known = {address: facts.capacity for address, facts in self._ledger.hosts.items()}
            whole = {address: Room.whole(capacity) for address, capacity in known.items()}
            takers = {address: room for address, room in whole.items() if not known[address].draining}
            raise NoRoom(
                f"{len(specs)} instances{', each on a host of its own,' if spread else ''} do not fit on {len(known)} hosts.",
                ever=not known or choose(needs, whole, spread) is not None,
                soon=choose(needs, takers, spread) is not None,
            )
        vnis = {vpc_id: self._ledger.vni(vpc_id) for vpc_id in {spec.vpc_id for spec in specs}}
        return {
            spec.id: Place(address, spec.vpc_id, vnis[spec.vpc_id], spec.eni, need.memory, need.gpus)
            for spec, need, address in zip(specs, needs, chosen, strict=True)
        }

    def _push(self, vpc_id: str) -> None:
        """Bring rules, ways out and tunnels of a VPC to every host that has instances of it. Raises FleetError."""
        with self._pushing[vpc_id]:
            groups, exits = self._rules.get(vpc_id, ((), NO_EXITS))
            places = [place for place in self._ledger.places.values() if place.vpc_id == vpc_id and not place.lost]
            remotes = [Remote(place.eni, place.host) for place in places]

            def push(address: str) -> None:
                elsewhere = tuple(remote for remote in remotes if remote.host != address)
                self._host(address).enforce(vpc_id, groups, exits, Overlay(places[0].vni, address, elsewhere))

            _together(push, sorted({place.host for place in places}))

    def _each(self, ids: Sequence[str], call: Callable[[RayHost, list[str]], Any]) -> list[Any]:
        """Make a call to every host that has some of the instances, with theirs; the answers. Raises FleetError."""
        by_host: dict[str, list[str]] = {}
        for id_ in ids:
            place = self._ledger.places.get(id_)
            if place is not None and not place.lost:
                by_host.setdefault(place.host, []).append(id_)
        return _together(lambda address: call(self._host(address), by_host[address]), list(by_host))

    def _host(self, address: str) -> RayHost:
        if self._tender.ident is None:
            raise Unreachable("This replica of the control plane does not lead: the one that does reaches the hosts")
        if address not in self._joined:
            raise Unreachable(f"The host {address} is away")
        return self._hosts[address]

    def _tend(self) -> None:
        """Take up hosts that come, and see which are away for too long."""
        self._expect(REJOIN_SECONDS, self._ledger.hosts)
        while not self._closing.wait(LOOK_SECONDS):
            try:
                # A replica that may not lead any more lets go of the hosts: without being asked, the driver ends.
                self._term()
                self._look()
            except FleetError as error:
                log.warning("the hosts cannot be looked after now", reason=str(error))
            except Exception:
                # Nobody else would see that a host has come, or is lost.
                log.exception("the hosts cannot be looked after now")

    def _look(self) -> None:
        try:
            present, left = self._bridge.hosts()
        except FleetError as error:
            log.warning("Ray is away and is started again", reason=str(error))
            self._joined.clear()
            with contextlib.suppress(FleetError):
                self._bridge.open()
            self._expect(REJOIN_SECONDS, self._ledger.hosts)
            return
        for address, node in present.items():
            if self._joined.get(address) != node:
                self._apart(node, partial(self._take_up, address, node))
            elif time.monotonic() - self._asked[address] > FACTS_SECONDS:
                self._apart(node, partial(self._ask, address))
        for address in [address for address in self._joined if address not in present]:
            log.warning("a host is away", host=address, in_order=address in left)
            del self._joined[address]
            self._hosts[address].close()
            self._expect(REJOIN_SECONDS if address in left else LOST_SECONDS, [address])
        with self._belonging:
            for address in [address for address in self._ledger.hosts if address not in self._joined]:
                if time.monotonic() > self._expected[address]:
                    log.error("a host is lost", host=address, instances=self._ledger.on(address))
                    self._ledger.lose(address)
                    self._waiting.tell_all()

    def _apart(self, node: str, call: Callable[[], None]) -> None:
        """Make calls to a host in a thread of their own: one that hangs, or has much to clear away, holds up no others."""

        def made() -> None:
            try:
                call()
            except FleetError as error:
                log.warning("a host cannot be looked after now", node=node, reason=str(error))
            except Exception:
                log.exception("a host cannot be looked after now", node=node)
            finally:
                self._busy.discard(node)

        if node not in self._busy:
            self._busy.add(node)
            threading.Thread(target=made, name=node[:8], daemon=True).start()

    def _expect(self, seconds: float, addresses: Iterable[str]) -> None:
        """Hosts that are away have so long to come back."""
        self._expected.update(dict.fromkeys(addresses, time.monotonic() + seconds))

    def _take_up(self, address: str, node: str) -> None:
        """Raises FleetError."""
        host = RayHost(address, self._bridge, self._waiting, self._term)
        host.lead()
        facts = host.facts()
        host.open()
        # Jobs have gone on without these, or have ended: they must not run beside what took their place.
        owed = self._owed(address)
        # Begun by a control plane whose backup this one is. What this one, or an earlier leader, has placed is here: it was in
        # the ledger first, and the host was asked after it had heard of this leader.
        unknown = [id_ for id_ in host.everything() if id_ not in self._ledger.places]
        if unknown:
            log.warning("a host has instances of which nothing is known: they are taken down", host=address, instances=unknown)
        if owed or unknown:
            host.destroy([*owed, *unknown])
            self._remove(owed)
        with self._belonging:
            # It may have been lost just now.
            if self._closing.is_set() or self._owed(address):
                return
            self._ledger.note(address, facts)
            host.follow()
            if (before := self._hosts.get(address)) is not None:
                before.close()
            # At the next look it is asked, and given a lease.
            self._hosts[address], self._asked[address] = host, -FACTS_SECONDS
            self._joined[address] = node
        log.info("host joined", host=address, mtu=facts.mtu)
        self._waiting.tell_all()

    def _owed(self, address: str) -> list[str]:
        """Instances that may still be on a host and were lost with it."""
        return [id_ for id_ in self._ledger.on(address) if self._ledger.places[id_].lost]

    def _ask(self, address: str) -> None:
        """Raises FleetError."""
        self._asked[address] = time.monotonic()
        host = self._hosts[address]
        facts = host.facts()
        with self._belonging:
            if address in self._joined:
                self._ledger.note(address, facts)
        host.renew(LEASE_SECONDS)


def _together(call: Callable[[str], Any], addresses: Sequence[str]) -> list[Any]:
    """Make the calls at the same time; the answers, once all have ended. Raises what the first of them raised."""
    if len(addresses) < 2:
        return [call(address) for address in addresses]
    with ThreadPoolExecutor(len(addresses)) as pool:
        return [future.result() for future in [pool.submit(call, address) for address in addresses]]
