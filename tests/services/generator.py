"""Requests of an operation, generated from botocore's model: valid ones, and ones that are a single change away from that.

A request is made as a client's is: members, serialized by botocore. What is changed is changed afterwards, in the document or
the parameters as they go over the wire, so that it may be what no client would send.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import cbor2
from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from botocore.serialize import create_serializer
from hypothesis import strategies as st

from phalanx.wire.validator import compile_pattern, matches

DEPTH = 6
FORM = "application/x-www-form-urlencoded; charset=utf-8"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=12)
PLAIN = (
    "a", "name-1", "job-1", "train", "10", "0", "s3://bucket/data/train", "https://example.com", "10.1.0.0/16", "10.1.1.0/24",
    "10.1.1.9", "tcp", "50", "-1", "::/0", "arn:aws:iam::123456789012:role/Role", "123456789012", "application/json",
    "/opt/ml/checkpoints", "/aws/sagemaker/TrainingJobs", "job-1/algo-1-1", "us-west-2a", "vpc-id", "group-id", "tag:Name",
    "state", "TrainingJobStatus", "Completed", "CreationTime", "2026-01-01T00:00:00Z",
)  # fmt: skip
"""Strings that mean something to some operation."""
WRONG_TEXT = (
    "", " ", "x", "x" * 70_000, "\0", "\u2028", "😀" * 5, "İ", "NaN", "null", "a\nb", "%s{}", "';--", "-1", "2147483648",
    "9" * 40, "1.5", "1e5", "true", "Infinity", "2026-13-40", "999999999999999",
)  # fmt: skip
"""Texts that are too long, out of range, no member of an enum, or hard to write down."""
WRONG = (
    *WRONG_TEXT, None, True, -1, 2**31, 2**63, 2**200, 1e308, float("nan"), float("inf"), "\ud800", [], {}, [[]], {"": ""},
    [None], [{}], {"a": {"b": [1]}},
)  # fmt: skip
"""Values that may be of a wrong type besides."""


@dataclass(frozen=True)
class Request:
    """A request as it goes over the wire. `changed` is what makes it differ from a valid one, None where nothing does."""

    headers: dict[str, str]
    body: bytes
    changed: str | None


class Known:
    """The last strings that the service under test has answered with, by the name of the member that held them."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = defaultdict(list)

    def learn(self, answer: Any, name: str = "") -> None:
        """Take up all strings of an answer."""
        if isinstance(answer, dict):
            for key, value in answer.items():
                self.learn(value, key)
        elif isinstance(answer, list):
            for value in answer:
                self.learn(value, name)
        elif isinstance(answer, str):
            seen = [value for value in self._values[_singular(name)] if value != answer]
            self._values[_singular(name)] = [*seen, answer][-8:]

    def of(self, name: str) -> list[str]:
        """What was seen under a member's name, with or without `s`."""
        return self._values.get(_singular(name), [])


def _singular(name: str) -> str:
    return name.lower().removesuffix("s")


class Generator:
    """Makes requests of a service's operations."""

    def __init__(self, protocol: str, known: Known, fixed: dict[str, Any]) -> None:
        """`fixed`: members that three of four requests have as they are; all others are drawn."""
        self.protocol = protocol
        self._serializer = create_serializer(protocol, include_validation=False)
        json_, cbor = (json.loads, _json), (cbor2.loads, _cbor)
        self._notation = {"json": json_, "rest-json": json_, "smithy-rpc-v2-cbor": cbor}.get(protocol)
        # As it is now: Hypothesis wants its choices to be the same when it repeats an example.
        self._known = copy.deepcopy(known)
        self._fixed = fixed
        self._strings = cache(self._strings_of)

    def serialize(self, operation: OperationModel, members: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        """Headers and body as botocore makes them of members."""
        sent = self._serializer.serialize_to_request(members, operation)
        body = sent["body"] if self._notation else urlencode(sent["body"]).encode()
        return {"content-type": FORM, **{name.lower(): value for name, value in sent["headers"].items()}}, body

    def path(self, operation: OperationModel) -> str:
        """Where botocore sends requests of an operation."""
        return str(self._serializer.serialize_to_request({}, operation)["url_path"])

    def requests(self, operation: OperationModel) -> st.SearchStrategy[Request]:
        """Requests of one operation, every other one changed in one place."""
        members = self._members(operation.input_shape, operation.name, 0) if operation.input_shape else st.just({})

        @st.composite
        def request(draw: st.DrawFn) -> Request:
            given = draw(members)
            if draw(st.sampled_from([True, True, True, False])):
                given = {**given, **self._fixed}
            headers, body = self.serialize(operation, given)
            if draw(st.booleans()):
                return Request(headers, body, None)
            if self._notation:
                load, dump = self._notation
                document, changed = draw(_changed_document(load(body) if body else {}))
                return Request(headers, document if isinstance(document, bytes) else dump(document), changed)
            parameters, changed = draw(_changed_parameters(parse_qsl(body.decode(), keep_blank_values=True)))
            return Request(headers, urlencode(parameters).encode(), changed)

        return request()

    def _members(self, shape: Shape, name: str, depth: int) -> st.SearchStrategy[Any]:
        if isinstance(shape, StructureShape):
            return self._structure(shape, depth)
        if isinstance(shape, ListShape):
            least = min(int(shape.metadata.get("min", 0)), 3)
            most = max(least, min(int(shape.metadata.get("max", 2)), 2))
            return st.lists(self._members(shape.member, name, depth + 1), min_size=least, max_size=most)
        if isinstance(shape, MapShape):
            keys, values = self._strings(shape.key, name), self._members(shape.value, name, depth + 1)
            return st.dictionaries(keys, values, max_size=2)
        if shape.type_name in ("integer", "long"):
            low = int(shape.metadata.get("min", 0))
            return st.one_of(
                st.sampled_from(sorted({low, low + 1, min(100, int(shape.metadata.get("max", 100)))})),
                st.integers(low, int(shape.metadata.get("max", 2**31 - 1))),
            )
        if shape.type_name == "string":
            return self._strings(shape, name)
        return {
            "boolean": st.booleans(),
            "float": st.floats(0, 1, width=32),
            "double": st.floats(0, 1, width=32),
            "timestamp": st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
            "blob": st.binary(max_size=12),
        }[shape.type_name]

    def _structure(self, shape: StructureShape, depth: int) -> st.SearchStrategy[dict[str, Any]]:
        if shape.is_tagged_union:
            required, optional = [], sorted(shape.members)
        else:
            required = sorted(shape.required_members)
            optional = sorted(set(shape.members) - set(required) - {"DryRun"})
        if depth >= DEPTH:
            optional = []

        @st.composite
        def structure(draw: st.DrawFn) -> dict[str, Any]:
            most = 1 if shape.is_tagged_union else draw(st.sampled_from([0, 1, 1, 4]))
            chosen = draw(st.lists(st.sampled_from(optional), max_size=most, unique=True)) if optional else []
            return {name: draw(self._members(shape.members[name], name, depth + 1)) for name in (*required, *chosen)}

        return structure()

    def _strings_of(self, shape: StringShape, name: str) -> st.SearchStrategy[str]:
        if shape.enum:
            return st.sampled_from(shape.enum)
        low, high = int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", 1 << 20))
        pattern = shape.metadata.get("pattern")
        compiled = compile_pattern(pattern) if pattern else None

        def fits(text: str) -> bool:
            return low <= len(text) <= high and (compiled is None or matches(compiled, text))

        plain = [text for text in PLAIN if fits(text)] or ["x" * max(low, 1)]

        @st.composite
        def text(draw: st.DrawFn) -> str:
            known = [text for text in self._known.of(name) if fits(text)]
            kind = draw(st.sampled_from(["known"] * 8 + ["plain", "any"]))
            if known and kind == "known":
                return draw(st.sampled_from(known))
            return draw(st.sampled_from(plain) if compiled or kind != "any" else TEXT.filter(fits))

        return text()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _cbor(document: Any) -> bytes:
    try:
        return cbor2.dumps(document)
    except UnicodeEncodeError:  # half a surrogate pair, which CBOR cannot write
        return b"\xff"


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, member in inner:
        yield from _places(member, (*path, key))


@st.composite
def _changed_document(draw: st.DrawFn, document: Any) -> tuple[Any, str]:
    kind = draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat", "deepen", "damage"]))
    if kind == "damage":
        text = json.dumps(document, default=str)
        at = draw(st.integers(0, len(text) - 1))
        damaged = draw(st.sampled_from([text[:at], text[:at] + "\0" + text[at:], text + "}", "", "[]", '"x"', "[" * 5000]))
        return draw(
            st.sampled_from([damaged.encode(), damaged.encode("utf-16"), b"\xff" + damaged.encode()])
        ), f"{kind} at {at}"
    places = [place for place in _places(document) if place]
    if kind == "add" or not places:
        place = draw(st.sampled_from([place for place in _places(document) if isinstance(_at(document, place), dict)]))
        _at(document, place)[draw(st.sampled_from(["Unknown", "", "tags", "__type", "\0", "é" * 300]))] = draw(
            st.sampled_from(WRONG)
        )
        return document, f"add at {place}"
    place = draw(st.sampled_from(places))
    holder, last = _at(document, place[:-1]), place[-1]
    if kind == "replace":
        holder[last] = draw(st.sampled_from(WRONG))
    elif kind == "remove":
        del holder[last]
    elif kind == "repeat":
        holder[last] = [holder[last]] * draw(st.sampled_from([2, 300]))
    else:
        for _ in range(draw(st.sampled_from([1, 40, 400]))):
            holder[last] = draw(st.sampled_from([[holder[last]], {"Value": holder[last]}]))
    return document, f"{kind} at {place}"


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def _changed_parameters(draw: st.DrawFn, parameters: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], str]:
    kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat", "add"]))
    inner = [at for at, (name, _) in enumerate(parameters) if name not in ("Action", "Version")]
    if kind == "add" or not inner:
        name = draw(
            st.sampled_from(["Unknown", "", ".", "Tag.1", "Filter.1.Value.99999", "VpcId.1", "a" * 5000, "é", "A." * 3000])
        )
        return [*parameters, (name, draw(st.sampled_from(WRONG_TEXT)))], f"add {name[:20]}"
    at = draw(st.sampled_from(inner))
    name, value = parameters[at]
    if kind == "replace":
        changed = [(name, draw(st.sampled_from(WRONG_TEXT)))]
    elif kind == "remove":
        changed = []
    elif kind == "repeat":
        changed = [(name, value), (name, value)]
    else:
        ways = [name + ".1", name + ".1.1", name.lower(), name + ".", name + ".0", name + ".-1", name + ".99999999999999999999"]
        changed = [(draw(st.sampled_from([*ways, name.rpartition(".")[0], name + "é"])), value)]
    return [*parameters[:at], *changed, *parameters[at + 1 :]], f"{kind} {name}"
