"""Before an encrypted job starts: do the security groups let its instances speak IKE and ESP to each other?

SageMaker's own rule ("Protect Communications Between ML Compute Instances in a Distributed Training Job"): UDP 500 and
protocol 50, inbound and outbound, between the instances. Every ordered pair is checked as EC2 evaluates it: egress by the
sender's groups, ingress by the receiver's, each the union of their rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from phalanx.jobs import explain
from phalanx.jobs.explain import ESP, IKE, End, Flow
from phalanx.jobs.record import FAILURE_REASON_LIMIT
from phalanx.network.model import DIRECTIONS, Direction, SecurityGroup


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
