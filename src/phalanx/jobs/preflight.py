"""Before an encrypted job starts: do security groups and network ACLs let its instances speak IKE and ESP to each other?

SageMaker's own rule ("Protect Communications Between ML Compute Instances in a Distributed Training Job"): UDP 500 and
protocol 50, inbound and outbound, between the instances. Every ordered pair is checked as EC2 evaluates it: egress by the
sender's groups, ingress by the receiver's, each the union of their rules; and where the two are in different subnets, both
ways by the network ACL of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from phalanx.jobs import explain
from phalanx.jobs.explain import ESP, IKE, End, Flow
from phalanx.jobs.record import FAILURE_REASON_LIMIT
from phalanx.network.model import DIRECTIONS, Acl, AclRule, Direction, SecurityGroup


@dataclass(frozen=True, slots=True)
class MissingRule:
    """A rule that would have to be in one of `groups`, for `flow` from (ingress) or to (egress) `peers`.

    `groups` and `peers` are all groups of the two instances; a rule in any of `groups` that names any of `peers` will do.
    """

    groups: tuple[str, ...]
    direction: Direction
    flow: Flow
    peers: tuple[str, ...]


def missing_rules(ends: Iterable[End], security_groups: Iterable[SecurityGroup]) -> list[MissingRule]:
    """What the groups of an encrypted job's instances do not allow between them, each once.

    A group that is not in `security_groups` allows nothing. Empty for a single instance.
    """
    rules = {group.id: [("", rule) for rule in group.rules] for group in security_groups}
    missing = {
        MissingRule(own.groups, direction, flow, other.groups)
        for own, other in permutations(ends, 2)
        for direction in DIRECTIONS
        for flow in (IKE, ESP)
        if not any(explain.passing(flow, own, other, direction, rules))
    }
    return sorted(missing, key=lambda rule: (rule.groups, rule.peers, rule.direction != "ingress", rule.flow.protocol))


@dataclass(frozen=True, slots=True)
class Blocked:
    """What a network ACL lets not pass from (ingress) or to (egress) `other`, an instance, by its rule `rule`."""

    acl: Acl
    direction: Direction
    flow: Flow
    other: End
    rule: AclRule | None


def blocked(ends: Iterable[End], acls: Sequence[Acl]) -> list[Blocked]:
    """What network ACLs stop between the instances of an encrypted job, which have their addresses."""
    found = []
    for own, other in permutations(ends, 2) if acls else ():
        acl = explain.border(acls, own, other)
        if acl is None:
            continue
        for direction, flow in product(DIRECTIONS, (IKE, ESP)):
            rule = explain.deciding(acl, flow, other, direction)
            if rule is None or not rule.allow:
                found.append(Blocked(acl, direction, flow, other, rule))
    return list(dict.fromkeys(found))


def border_reason(found: Sequence[Blocked]) -> str | None:
    """Why network ACLs keep an encrypted job from starting, and the commands that mend it; None where they do not.

    At most FAILURE_REASON_LIMIT characters, as `failure_reason`.
    """
    if not found:
        return None
    need = "An encrypted job needs UDP 500 and ESP allowed both ways between its subnets."
    together: dict[tuple[str, Direction, str, AclRule | None], list[Blocked]] = {}
    for each in found:
        together.setdefault((each.acl.id, each.direction, each.other.address, each.rule), []).append(each)
    said = [
        explain.denied(some[0].acl, [each.flow for each in some], some[0].direction, some[0].rule, some[0].other.address)
        for some in together.values()
    ]
    text = _fill("ClientError:", said, "More is denied.", len(need) + 1)
    # One for all instances of a subnet, by the first rule that denies any of them.
    needed: dict[tuple[str, Direction, Flow, str], Blocked] = {}
    for each in found:
        key = (each.acl.id, each.direction, each.flow, str(each.other.subnet or each.other.address))
        needed[key] = min(needed.get(key, each), each, key=lambda one: 32767 if one.rule is None else one.rule.number)
    taken: explain.Taken = set()
    commands = [explain.enter(each.acl, each.flow, each.direction, each.rule, each.other, taken) for each in needed.values()]
    return _fill(f"{text} {need}", [f"Run: {each}" for each in commands if each], "More commands are needed.", 0)


def failure_reason(missing: Sequence[MissingRule]) -> str | None:
    """Why an encrypted job cannot start: every missing rule, and the commands that add them; None where none is missing.

    At most FAILURE_REASON_LIMIT characters: what does not fit is left out, the commands first, and that is said.
    """
    if not missing:
        return None
    by_groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[MissingRule]] = {}
    for rule in missing:
        by_groups.setdefault((rule.groups, rule.peers), []).append(rule)
    need = "An encrypted job needs UDP 500 and ESP allowed both ways between its instances."
    commands = [command for rules in by_groups.values() for command in _commands(rules)]
    lacking = [
        explain.lacking([(rule.direction, rule.flow) for rule in rules], groups, peers)
        for (groups, peers), rules in by_groups.items()
    ]
    text = _fill("ClientError:", lacking, "More groups lack rules.", len(need) + 1)
    return _fill(f"{text} {need}", [f"Run: {command}" for command in commands], "More commands are needed.", 0)


def _commands(rules: Sequence[MissingRule]) -> Iterator[str]:
    """The AWS CLI commands that add these rules between the same groups: one for each direction."""
    for direction in DIRECTIONS:
        if flows := [rule.flow for rule in rules if rule.direction == direction]:
            yield explain.authorize(flows, direction, rules[0].groups[0], rules[0].peers[0])


def _fill(text: str, parts: Sequence[str], more: str, reserve: int) -> str:
    """`text` and as many of `parts` as fit FAILURE_REASON_LIMIT less `reserve`; `more` stands for those that do not."""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        rest = 0 if last else len(more) + 1
        if len(text) + 1 + len(part) + rest + reserve > FAILURE_REASON_LIMIT:
            return f"{text} {more}"
        text = f"{text} {part}"
    return text
