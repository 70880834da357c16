"""Search and GetSearchSuggestions over training jobs, tuning jobs, experiments, trials and trial components."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, func, select
from sqlalchemy.orm import Session, defer

from phalanx.services import tokens
from phalanx.services.sagemaker import experiments, expressions, paging, tags, trial_components, trials, tuning
from phalanx.services.sagemaker.describe import described
from phalanx.store.database import Database
from phalanx.store.experiments import Experiment, Trial, TrialComponent
from phalanx.store.jobs import TrainingJob, Transition
from phalanx.store.tuning import TuningJob
from phalanx.wire.service import Caller, Members

DEFAULT_MAX_RESULTS = 100
"""Records on a page where the request has no MaxResults."""
SUGGESTIONS = 50

_BATCH = 500


def search(database: Database, _: Caller, members: Members) -> Members:
    """The resources that a search expression matches, the last modified first unless another order is asked for.

    Resources of other kinds, and those that other accounts share, do not exist here, so that nothing of them is found.
    """
    kind = KINDS.get(members["Resource"])
    if kind is None or members.get("CrossAccountFilterOption") == "CrossAccount":
        return {"Results": [], "TotalHits": {"Value": 0, "Relation": "EqualTo"}}
    expression = members.get("SearchExpression", {})
    matches, visible = expressions.matches(expression), expressions.shows(members.get("VisibilityConditions", []))
    sort = members.get("SortBy", "LastModifiedTime")
    descending = members.get("SortOrder", "Descending") == "Descending"
    whole = [kind.record, expression, members.get("VisibilityConditions", []), sort, descending]
    asked = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
    after = _after(members["NextToken"], asked) if members.get("NextToken") else ""
    limit = members.get("MaxResults", DEFAULT_MAX_RESULTS)
    conditions, exact = _narrowed(kind, expression)
    with database.read() as session:
        if exact and sort in kind.orders and not members.get("VisibilityConditions"):
            # No record need be made to tell which are shown.
            total = session.scalar(select(func.count()).select_from(kind.table).where(*conditions)) or 0
            query = select(*kind.orders[sort]).where(*conditions)
            asks = {**members, "SortBy": sort, "MaxResults": limit, "NextToken": after}
            rows, more = paging.page(session, query, kind.orders, asks, descending=descending)
            names, last = [row.name for row in rows], more.get("NextToken")
        else:
            records = kind.everything(session, conditions)
            found = [
                (_rank(expressions.at(record, sort)), record[kind.name])
                for record in records
                if matches(record) and visible(record)
            ]
            total = len(found)
            found.sort(reverse=descending)
            if after:
                place = _place(after)
                found = [each for each in found if (each < place if descending else each > place)]
            names = [name for _, name in found[:limit]]
            last = json.dumps(found[limit - 1]) if len(found) > limit else None
        shown = {record[kind.name]: record for record in kind.named(session, names)}
    return {
        "Results": [{kind.record: shown[name]} for name in names],
        "TotalHits": {"Value": total, "Relation": "EqualTo"},
        **({} if last is None else {"NextToken": tokens.encode([asked, last])}),
    }


def get_search_suggestions(database: Database, _: Caller, members: Members) -> Members:
    """Names of properties that begin with the hint, those of the resources there are."""
    hint = members.get("SuggestionQuery", {}).get("PropertyNameQuery", {}).get("PropertyNameHint", "").lower()
    names: set[str] = set()
    kind = KINDS.get(members["Resource"])
    if kind is not None:
        with database.read() as session:
            for record in kind.everything(session):
                names.update(name for name in _names(record) if name.lower().startswith(hint) and len(name) <= 255)
    return {"PropertyNameSuggestions": [{"PropertyName": name} for name in sorted(names)[:SUGGESTIONS]]}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: its member of SearchRecord, the member that is its name, its table (with a column `name`), what
    makes records of rows, which properties are columns of the table, and the orders that columns make."""

    record: str
    name: str
    table: Any
    records: Callable[[Session, Sequence[Any]], Iterator[Members]]
    columns: Mapping[str, Any] = field(default_factory=dict)
    orders: paging.Orders = field(default_factory=dict)

    def everything(self, session: Session, conditions: Sequence[Any] = ()) -> Iterator[Members]:
        """Every record, of rows that satisfy the conditions; a few at a time, since there may be many."""
        last = ""
        while rows := session.scalars(
            self._query(self.table.name > last, *conditions).order_by(self.table.name).limit(_BATCH)
        ).all():
            last = rows[-1].name
            yield from self.records(session, rows)
            session.expunge_all()

    def named(self, session: Session, names: Sequence[str]) -> Iterator[Members]:
        """The records of these names."""
        return self.records(session, session.scalars(self._query(self.table.name.in_(names))).all())

    def _query(self, *conditions: Any) -> Any:
        query = select(self.table).where(*conditions)
        # Large, and nobody's to search.
        return query.options(defer(TrainingJob.evidence), defer(TrainingJob.plan)) if self.table is TrainingJob else query


def _jobs(session: Session, jobs: Sequence[TrainingJob]) -> Iterator[Members]:
    """Jobs in the model's shape TrainingJob."""
    tagged = tags.of(session, [job.arn for job in jobs])
    transitions: dict[str, list[Transition]] = {}
    query = select(Transition).where(Transition.job.in_([job.name for job in jobs]))
    for each in session.scalars(query.order_by(Transition.job, Transition.number)):
        transitions.setdefault(each.job, []).append(each)
    for job in jobs:
        yield {**described(job, transitions.get(job.name, [])), "Tags": tagged.get(job.arn, [])}


KINDS = {
    "TrainingJob": Kind(
        "TrainingJob",
        "TrainingJobName",
        TrainingJob,
        _jobs,
        {
            "TrainingJobName": TrainingJob.name,
            "TrainingJobStatus": TrainingJob.status,
            "EnableInterContainerTrafficEncryption": TrainingJob.encrypted,
        },
        {
            "CreationTime": (TrainingJob.created, TrainingJob.name),
            "LastModifiedTime": (TrainingJob.modified, TrainingJob.name),
        },
    ),
    "HyperParameterTuningJob": Kind("HyperParameterTuningJob", "HyperParameterTuningJobName", TuningJob, tuning.records),
    "Experiment": Kind("Experiment", "ExperimentName", Experiment, experiments.records),
    "ExperimentTrial": Kind("Trial", "TrialName", Trial, trials.records),
    "ExperimentTrialComponent": Kind("TrialComponent", "TrialComponentName", TrialComponent, trial_components.records),
}
"""What can be searched for, by the request's Resource."""


_STORED: dict[str, Callable[[Any, str], Any]] = {
    "Equals": lambda column, value: column == value,
    "NotEquals": lambda column, value: column != value,
    "In": lambda column, value: column.in_(value.split(",")),
    "Contains": lambda column, value: column.icontains(value, autoescape=True),
}
"""Operators as the store has them, for texts."""


def _narrowed(kind: Kind, expression: Members) -> tuple[list[Any], bool]:
    """What rows must satisfy for a record to match, as far as the store can tell, and whether that is all there is to it: of a
    hundred thousand jobs few need be made records then."""
    conditions = []
    filters = expression.get("Filters", [])
    for each in filters if expression.get("Operator") != "Or" else ():
        column, operator, value = kind.columns.get(each["Name"]), each.get("Operator", "Equals"), each.get("Value", "")
        # Not all that a request may hold can be asked of every database.
        if column is None or operator not in _STORED or not (value.isascii() and value.isprintable()):
            continue
        if not isinstance(column.type, Boolean):
            conditions.append(_STORED[operator](column, value))
        elif operator == "Equals" and value.lower() in ("true", "false"):
            conditions.append(column.is_(value.lower() == "true"))
    more = expression.get("NestedFilters") or expression.get("SubExpressions")
    return conditions, len(conditions) == len(filters) and not more


def _rank(values: list[Any]) -> list[Any]:
    """A sort key that survives JSON: nothing, then numbers and times, then texts."""
    if not values:
        return [0, 0]
    value = values[0]
    if isinstance(value, datetime):
        return [1, value.timestamp()]
    if isinstance(value, int | float) and value == value:
        return [1, float(value)]
    return [2, value] if isinstance(value, str) else [0, 0]


def _after(token: str, asked: str) -> str:
    """What the last page of the same search left. Raises ValidationException for the token of another."""
    try:
        given, after = tokens.decode(token, str, str)
    except ValueError as error:
        raise paging.foreign() from error
    if given != asked or not after:
        raise paging.foreign()
    return str(after)


def _place(after: str) -> tuple[list[Any], str]:
    """What the last record of a page was ordered by (`_rank`), and its name. Raises ValidationException for anything else."""
    try:
        (kind, value), name = json.loads(after)
    except (ValueError, TypeError, RecursionError) as error:
        raise paging.foreign() from error
    if not (isinstance(kind, int) and isinstance(value, str if kind == 2 else int | float) and isinstance(name, str)):
        raise paging.foreign()
    return [kind, value], name


def _names(record: Members, prefix: str = "") -> Iterator[str]:
    for name, value in record.items():
        if value is None:
            continue
        if name == "Tags":
            yield from (f"{prefix}Tags.{tag['Key']}" for tag in value)
        elif name == "FinalMetricDataList":
            yield from (f"{prefix}Metrics.{metric['MetricName']}" for metric in value)
        elif name == "Metrics":
            yield from (f"{prefix}Metrics.{metric['MetricName']}.{key}" for metric in value for key in metric)
        elif name == "Parameters":
            yield from (f"{prefix}Parameters.{key}" for key in value)
        elif isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for element in value:
                yield from _names(element, f"{prefix}{name}.") if isinstance(element, dict) else [f"{prefix}{name}"]
        else:
            yield f"{prefix}{name}"
