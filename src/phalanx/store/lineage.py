"""Artifacts, and what is associated with what."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base, Json


class Artifact(Base):
    """Something with a URI. `name` is what its ARN ends with; `created_by` and `modified_by` are UserContexts of the service
    model."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("ix_artifacts_created", "created", "name"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str | None]
    """ArtifactName: many may have the same."""
    type: Mapped[str]
    uri: Mapped[str] = mapped_column(index=True)
    source: Mapped[Json]
    properties: Mapped[Json]
    metadata_properties: Mapped[Json]
    created: Mapped[int]
    created_by: Mapped[Json]
    modified: Mapped[int]
    modified_by: Mapped[Json]


class Association(Base):
    """That one thing has to do with another; both are ARNs, and each has a type: an artifact its own, others by kind."""

    __tablename__ = "associations"
    __table_args__ = (Index("ix_associations_created", "created", "source", "destination"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True, index=True)
    source_type: Mapped[str]
    destination_type: Mapped[str]
    type: Mapped[str | None]
    created: Mapped[int]
    created_by: Mapped[Json]


def artifact_name(source: Json) -> str:
    """What the ARN of an artifact with this source (the model's ArtifactSource) ends with: no two have the same source.

    A hash of it, as on AWS ("Actions, resources, and condition keys for Amazon SageMaker": artifact/HashOfArtifactSource).
    """
    types = sorted([each["SourceIdType"], each["Value"]] for each in source.get("SourceTypes") or [])
    return hashlib.sha256(json.dumps([source["SourceUri"], types]).encode()).hexdigest()[:32]
