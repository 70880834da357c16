"""The VPCs of one host: who is attached to which router, under which rules and guards."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import structlog

from phalanx.linux import files
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.exit import Exit
from phalanx.network.model import NO_EXITS, Eni, Exits, Guard, GuardCounters, Overlay, Rule, SecurityGroup, VpcState
from phalanx.network.router import Router
from phalanx.network.watch import Watch
from phalanx.node.messages import InstanceSpec, decode, encode
from phalanx.node.names import Names

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Rules:
    """What was told of a VPC last. Nothing yet means no group that allows anything, and no way out.

    `gone` are addresses that nobody on other hosts has any more, and whose connections the router may still know.
    """

    groups: tuple[SecurityGroup, ...] = ()
    exits: Exits = NO_EXITS
    overlay: Overlay | None = None
    gone: tuple[str, ...] = ()


class Vpcs:
    """Routers of this host's VPCs. Rules outlive the agent in the run directory; members are its instances."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._directory = names.run_dir / "vpcs"
        self._directory.mkdir(exist_ok=True)
        self._members: dict[str, dict[str, InstanceSpec]] = {}
        self._routers: dict[str, Router] = {}
        self._exits: dict[str, Exit] = {}
        self._lock = threading.RLock()

    def enforce(self, vpc_id: str, groups: tuple[SecurityGroup, ...], exits: Exits, overlay: Overlay | None = None) -> None:
        """Make these the rules of a VPC, its ways out, and where it goes on on other hosts, now and for instances to come.

        Raises NetworkError; then nothing new passes.
        """
        with self._lock:
            before, rules = self._rules(vpc_id), _Rules(groups, exits, overlay)
            gone = {*before.gone, *(address for _, address in _beyond(before) - _beyond(rules))}
            # Kept with the rules: whoever repeats this after a failure does not see any more who has left.
            self._keep(vpc_id, replace(rules, gone=tuple(sorted(gone))))
            if vpc_id in self._members:
                self._hold(vpc_id)

    def restore(self, specs: Iterable[InstanceSpec]) -> None:
        """Take up members that an earlier agent attached, all before the first `join`: no guard falls in between."""
        with self._lock:
            for spec in specs:
                self._members.setdefault(spec.vpc_id, {})[spec.id] = spec

    def admit(self, spec: InstanceSpec) -> None:
        """Have rules and guard for an instance, and the ways of its VPC, before its wire. Idempotent."""
        with self._lock:
            self._members.setdefault(spec.vpc_id, {})[spec.id] = spec
            self._router(spec.vpc_id).ensure()
            self._hold(spec.vpc_id)

    def join(self, spec: InstanceSpec, watch: Watch | None = None) -> None:
        """Wire an instance that was admitted to its VPC, watched from before the first frame. Idempotent."""
        with self._lock:
            self._router(spec.vpc_id).attach(spec.eni, self._names.instance_namespace(spec.id), watch)

    def leave(self, spec: InstanceSpec) -> None:
        """Detach an instance; its job's guard falls with the last of them, its router with the VPC's last. Idempotent."""
        with self._lock:
            router = self._router(spec.vpc_id)
            if namespace.exists(self._names.router_namespace(spec.vpc_id)):
                router.detach(spec.eni.id)
            members = self._members.get(spec.vpc_id, {})
            members.pop(spec.id, None)
            if members:
                self._apply(spec.vpc_id)
                # Whoever has the address next may be on another host, and is never attached here.
                router.forget(spec.eni.address)
            else:
                self._members.pop(spec.vpc_id, None)
                self._exit(spec.vpc_id).destroy()
                self._exits.pop(spec.vpc_id, None)
                router.destroy()
                self._routers.pop(spec.vpc_id, None)
                self._path(spec.vpc_id).unlink(missing_ok=True)

    def counters(self, spec: InstanceSpec) -> GuardCounters | None:
        """What the router's guard over the instance's job has counted; None where the job is not encrypted."""
        if spec.mesh is None:
            return None
        with self._lock:
            return self._router(spec.vpc_id).counters(spec.job)

    def verify(self, vpc_id: str) -> bool:
        """Re-assert a VPC's rules where its ruleset is no longer what was applied; whether others had changed it.

        Where its router is gone altogether it is made again, with the wires of instances that are not encrypted.

        Raises NetworkError; then the router forwards nothing.
        """
        with self._lock:
            if vpc_id not in self._members:
                return False
            router, state = self._router(vpc_id), self._state(vpc_id)
            if router.verify(state):
                if state.exits.lead and not self._exit(vpc_id).stands():
                    self._lead_out(vpc_id)
                return False
            changed = router.applied(state)
            # Not just `apply`: the namespace itself may be gone, and the wires with it.
            gone = not namespace.exists(self._names.router_namespace(vpc_id))
            router.ensure()
            self._hold(vpc_id)
            if gone:
                self._rejoin(vpc_id)
            return changed

    def _rejoin(self, vpc_id: str) -> None:
        """Wire again those whom nobody else does: who looks after an encrypted one misses its peers, and has it watched."""
        for spec in self._members[vpc_id].values():
            # One that has no namespace yet is still being prepared.
            if spec.mesh is None and namespace.exists(self._names.instance_namespace(spec.id)):
                try:
                    self.join(spec)
                except NetworkError as error:
                    log.error("an instance has no wire any more", instance=spec.id, reason=str(error))

    def finds_names(self, spec: InstanceSpec) -> bool:
        """Whether the routes of an instance's subnet lead to a name server now."""
        with self._lock:
            subnets = () if spec.isolated else self._rules(spec.vpc_id).exits.names
            return any(ip_address(spec.eni.address) in ip_network(subnet) for subnet in subnets)

    def known(self) -> set[str]:
        """Ids of the VPCs that have members here."""
        with self._lock:
            return set(self._members)

    def _router(self, vpc_id: str) -> Router:
        return self._routers.setdefault(vpc_id, Router(self._names.router_namespace(vpc_id)))

    def _exit(self, vpc_id: str) -> Exit:
        return self._exits.setdefault(vpc_id, Exit(self._names.exit_namespace(vpc_id), self._router(vpc_id)))

    def _hold(self, vpc_id: str) -> None:
        """Have rules and guards in force, the connections of those who left forgotten, and the VPC's ways open."""
        self._apply(vpc_id)
        rules = self._rules(vpc_id)
        if rules.gone:
            for address in rules.gone:
                self._router(vpc_id).forget(address)
            self._keep(vpc_id, replace(rules, gone=()))
        self._lead_out(vpc_id)
        self._reach(vpc_id)

    def _lead_out(self, vpc_id: str) -> None:
        """Make the VPC's exit where it has a way out. One that is there stays: the router decides what takes it."""
        if self._rules(vpc_id).exits.lead:
            _, host, port = next(iter(self._members[vpc_id].values())).store.location
            self._exit(vpc_id).ensure((host, port))

    def _reach(self, vpc_id: str) -> None:
        """Lead to the VPC's instances on other hosts, where it may have some."""
        overlay = self._rules(vpc_id).overlay
        if overlay is not None:
            self._router(vpc_id).reach(overlay)

    def _apply(self, vpc_id: str) -> None:
        self._router(vpc_id).apply(self._state(vpc_id))

    def _state(self, vpc_id: str) -> VpcState:
        members = self._members[vpc_id].values()
        guards = {spec.job: Guard(spec.job, tuple(spec.hosts.values())) for spec in members if spec.mesh is not None}
        rules = self._rules(vpc_id)
        groups = rules.groups
        isolated = {spec.job: spec for spec in members if spec.isolated}
        remotes = () if rules.overlay is None else rules.overlay.remotes
        peers = {address: spec for spec in isolated.values() for address in spec.hosts.values()}
        return VpcState(
            vpc_id=vpc_id,
            groups=(*groups, *(group for spec in isolated.values() for group in _isolated_groups(spec, groups))),
            enis=tuple(_isolated_eni(spec, spec.eni) if spec.isolated else spec.eni for spec in members),
            guards=tuple(guards.values()),
            # Groups, which narrow all else that an isolated job does, do not apply to names.
            exits=replace(rules.exits, names=_without(rules.exits.names, peers)),
            remotes=tuple(
                replace(remote, eni=_isolated_eni(peers[remote.eni.address], remote.eni))
                if remote.eni.address in peers
                else remote
                for remote in remotes
            ),
        )

    def _rules(self, vpc_id: str) -> _Rules:
        path = self._path(vpc_id)
        return decode(_Rules, json.loads(path.read_text())) if path.exists() else _Rules()

    def _keep(self, vpc_id: str, rules: _Rules) -> None:
        files.replace(self._path(vpc_id), json.dumps(encode(_Rules, rules)), durable=False)

    def _path(self, vpc_id: str) -> Path:
        return self._directory / f"{vpc_id}.json"


def _beyond(rules: _Rules) -> set[tuple[str, str]]:
    """Ids and addresses of network interfaces that are not on this host: whoever has an address next inherits no connection."""
    remotes = () if rules.overlay is None else rules.overlay.remotes
    return {(eni.id, eni.address) for eni in (*rules.exits.endpoints, *(remote.eni for remote in remotes))}


def _without(networks: Iterable[str], addresses: Iterable[str]) -> tuple[str, ...]:
    """The networks that hold all that these do, but the addresses."""
    left = [IPv4Network(network) for network in networks]
    for address in map(IPv4Network, addresses):
        cut = [network.address_exclude(address) if address.subnet_of(network) else (network,) for network in left]
        left = list(itertools.chain.from_iterable(cut))
    return tuple(map(str, left))


def _isolated_groups(spec: InstanceSpec, groups: tuple[SecurityGroup, ...]) -> list[SecurityGroup]:
    """The groups of an isolated job as they apply to it: copies of its own, narrowed to the job's own instances."""
    copies = []
    for group in groups:
        if group.id in spec.eni.groups:
            rules: list[Rule] = []
            for rule in group.rules:
                if rule.group in spec.eni.groups:
                    rules.append(replace(rule, group=_isolated_id(spec, rule.group)))
                elif rule.cidr is not None:
                    inside = [a for a in spec.hosts.values() if ip_address(a) in ip_network(rule.cidr, strict=False)]
                    rules += [replace(rule, cidr=f"{address}/32") for address in inside]
            copies.append(SecurityGroup(_isolated_id(spec, group.id), tuple(rules)))
    return copies


def _isolated_eni(spec: InstanceSpec, eni: Eni) -> Eni:
    return replace(eni, groups=tuple(_isolated_id(spec, group) for group in eni.groups))


def _isolated_id(spec: InstanceSpec, group: str | None) -> str:
    return f"{group}.{spec.job}"
