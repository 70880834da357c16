"""Amazon CloudWatch Logs, as far as Phalanx serves it: the logs of training jobs, read only."""

from __future__ import annotations

from functools import partial

from phalanx.services.logs.events import get_log_events
from phalanx.services.logs.filter import filter_log_events
from phalanx.services.logs.streams import describe_log_groups, describe_log_streams, list_tags_for_resource
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database) -> Service:
    """The service over a database."""
    return Service(
        "logs",
        {
            "DescribeLogGroups": partial(describe_log_groups, database),
            "ListTagsForResource": partial(list_tags_for_resource, database),
            "DescribeLogStreams": partial(describe_log_streams, database),
            "GetLogEvents": partial(get_log_events, database),
            "FilterLogEvents": partial(filter_log_events, database),
        },
    )
