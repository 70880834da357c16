"""Policy documents: checked, compiled, and asked ("IAM JSON policy reference", "Policy evaluation logic").

A document is compiled once; what a principal's policies say of an action is sorted out when it is first asked.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from phalanx.identity import condition_keys, pattern
from phalanx.identity.conditions import BadCondition, Context, Holds, condition
from phalanx.wire import unambiguous

Kind = Literal["identity", "trust"]
Matches = Callable[[str, Context], bool]

VERSIONS = ("2012-10-17", "2008-10-17")
LONGEST = 20_480
"""Characters of the longest document that is read at all; IAM's quotas are lower and counted by its handlers."""

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
_PRINCIPALS = {"Principal", "NotPrincipal"}
_ACTION = re.compile(r"[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+")
_SID = re.compile(r"[a-zA-Z0-9]*")


class Malformed(Exception):
    """A document is not a policy; the text says why, in IAM's words where they are on record."""


class Decision(enum.Enum):
    """What policies say of a request, as SimulatePrincipalPolicy has it."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement; `principal` is that of a trust policy: {"AWS": [...], "Service": [...]}, "*" as AWS."""

    denies: bool
    action: Callable[[str], bool]
    resource: Matches
    conditions: tuple[Holds, ...]
    principal: dict[str, tuple[str, ...]] | None = None

    def holds(self, context: Context) -> bool:
        """Whether all its conditions do."""
        return all(holds(context) for holds in self.conditions)


class Policies:
    """What several documents say together: an explicit denial wins, else any allowance, else it is denied."""

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        """`documents`: name and text of each; they have been checked."""
        self._statements = [(name, each) for name, text in documents for each in compiled(text, "identity")]
        self._by_action: dict[str, list[tuple[str, Statement]]] = {}

    def decide(self, action: str, resource: str, context: Context) -> tuple[Decision, list[str]]:
        """What is said of `action` on `resource`, and the names of the documents that decided it."""
        folded = action.lower()
        relevant = self._by_action.get(folded)
        if relevant is None:
            relevant = [(name, each) for name, each in self._statements if each.action(folded)]
            relevant.sort(key=lambda item: not item[1].denies)
            if len(self._by_action) < 1024:
                self._by_action[folded] = relevant
        allowed: list[str] = []
        denied: list[str] = []
        for name, each in relevant:
            if not each.denies and (denied or allowed):
                break
            if each.resource(resource, context) and each.holds(context):
                (denied if each.denies else allowed).append(name)
        if denied:
            return Decision.EXPLICIT_DENY, denied
        return (Decision.ALLOWED, allowed) if allowed else (Decision.IMPLICIT_DENY, [])


@lru_cache(maxsize=1024)
def compiled(text: str, kind: Kind) -> tuple[Statement, ...]:
    """The statements of a document. `kind`: a policy of a user or role, or one of whom a role trusts. Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed(f"A policy has at most {LONGEST} characters.")
    try:
        document = unambiguous.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("Syntax errors in policy.") from None
    if not isinstance(document, dict) or set(document) - {"Version", "Id", "Statement"}:
        raise Malformed("Syntax errors in policy.")
    version = document.get("Version", VERSIONS[1])
    if version not in VERSIONS:
        raise Malformed(f'The Version must be "{VERSIONS[0]}" or "{VERSIONS[1]}".')
    if not isinstance(document.get("Id", ""), str):
        raise Malformed("Syntax errors in policy.")
    given = document.get("Statement")
    statements = [given] if isinstance(given, dict) else given
    if not isinstance(statements, list) or not statements:
        raise Malformed("Syntax errors in policy.")
    if not all(isinstance(each, dict) for each in statements):
        raise Malformed("Syntax errors in policy.")
    sids = [each["Sid"] for each in statements if "Sid" in each]
    if not all(isinstance(sid, str) and _SID.fullmatch(sid) for sid in sids):
        raise Malformed(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
        )
    if len(set(sids)) < len(sids):
        raise Malformed("Statement IDs (SID) in a single policy must be unique.")
    try:
        return tuple(_statement(each, kind, version == VERSIONS[0]) for each in statements)
    except BadCondition as error:
        raise Malformed(str(error)) from error


def _statement(given: dict[str, Any], kind: Kind, variables: bool) -> Statement:
    allowed = _ELEMENTS if kind == "identity" else (_ELEMENTS - {"Resource", "NotResource"}) | _PRINCIPALS
    for name in given:
        if name in allowed:
            continue
        if name in _PRINCIPALS:
            raise Malformed("Policy document should not specify a principal.")
        if name in ("Resource", "NotResource"):
            raise Malformed(f"Has prohibited field {name}")
        raise Malformed("Syntax errors in policy.")
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise Malformed("Syntax errors in policy." if effect is None else f"Invalid effect: {str(effect)[:64]}")
    denies = effect == "Deny"
    action = _actions(*_either(given, "Action", "NotAction"))
    resource = _any_resource if kind == "trust" else _resources(*_either(given, "Resource", "NotResource"), variables, denies)
    principal = _principal(given) if kind == "trust" else None
    return Statement(denies, action, resource, tuple(_conditions(given.get("Condition", {}), variables, denies)), principal)


def _any_resource(resource: str, context: Context) -> bool:
    return True


def _either(given: dict[str, Any], name: str, negated: str) -> tuple[tuple[str, ...], bool]:
    """The texts of the one of two elements that is there, and whether it is the negated one."""
    if (name in given) == (negated in given):
        raise Malformed(f"Policy statement must contain {name.lower()}s." if name not in given else "Syntax errors in policy.")
    chosen = name if name in given else negated
    texts = _texts(given[chosen])
    if not texts:
        raise Malformed(f"Policy statement must contain {name.lower()}s.")
    return texts, chosen == negated


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise Malformed("Syntax errors in policy.")
    return tuple(values)


def _actions(texts: tuple[str, ...], negated: bool) -> Callable[[str], bool]:
    for text in texts:
        if text != "*" and not _ACTION.fullmatch(text):
            vendor = ":" in text
            raise Malformed(
                f"The action {text[:128]} is invalid."
                if vendor
                else "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            )
    tests = [pattern.glob(text.lower()) for text in texts]
    return lambda action: any(test(action) for test in tests) != negated


def _resources(texts: tuple[str, ...], negated: bool, variables: bool, denies: bool) -> Matches:
    # Every region is served and all hold the same resources: what a statement keeps somebody from, it does in each of them.
    kind: pattern.Kind = "arn anywhere" if denies != negated else "arn"
    tests: list[Callable[[str], bool]] = []
    dynamic: list[str] = []
    for text in texts:
        if text == "*":
            return lambda resource, context: not negated
        if not text.startswith("arn:") or text.count(":") < 5:
            raise Malformed(f'Resource {text[:128]} must be in ARN format or "*".')
        if variables and pattern.has_variables(text):
            dynamic.append(text)
        else:
            tests.append(pattern.arn(text, kind))

    def matches(resource: str, context: Context) -> bool:
        if any(test(resource) for test in tests):
            return not negated
        for text in dynamic:
            parts = pattern.expand(text, context.text)
            # A variable without a value matches nothing, also where it is meant to exempt something.
            if parts is not None and pattern.glob_of(parts, kind)(resource):
                return not negated
        return negated

    return matches


def _principal(given: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    if "NotPrincipal" in given:
        raise Malformed("NotPrincipal is not supported: name whom the role trusts in Principal.")
    principal = given.get("Principal")
    if principal == "*":
        return {"AWS": ("*",)}
    if not isinstance(principal, dict) or not principal or set(principal) - {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise Malformed("Missing required field Principal" if principal is None else "Invalid principal in policy.")
    found = {name: _texts(value) for name, value in principal.items()}
    for text in found.get("AWS", ()):
        if text != "*" and not re.fullmatch(r"\d{12}|arn:aws[a-z-]*:(iam|sts)::\d{12}:\S{1,512}", text, re.ASCII):
            raise Malformed(f'Invalid principal in policy: "AWS":"{text[:128]}"')
    return found


def _conditions(given: Any, variables: bool, denies: bool) -> Iterable[Holds]:
    if not isinstance(given, dict):
        raise Malformed("Syntax errors in policy.")
    for operator, compared in given.items():
        if not isinstance(compared, dict):
            raise Malformed("Syntax errors in policy.")
        for key, value in compared.items():
            if ":" not in key:
                raise Malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
            if condition_keys.unknown(key):
                raise Malformed(
                    f"Requests to this service never have the condition key {key[:128]}, so the statement would not do what it"
                    " says. Remove the condition."
                )
            yield condition(operator, key, tuple(_scalar(each) for each in _list(value)), variables, denies)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise Malformed("Syntax errors in policy.")
