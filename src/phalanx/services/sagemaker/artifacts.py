"""CreateArtifact, DescribeArtifact, UpdateArtifact, DeleteArtifact, ListArtifacts: what a run's curves are kept as."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.services.sagemaker import associations, authored, tags
from phalanx.services.sagemaker.errors import no_such, over_limit, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.services.times import moment
from phalanx.store.database import Database
from phalanx.store.lineage import Artifact, artifact_name
from phalanx.wire.service import Caller, Members

ARTIFACTS = 100_000
"""Most artifacts of the account. What SageMaker allows by default is not on record."""
PROPERTIES = 30
"""Most properties of an artifact (the model's limit of one request)."""

_ORDERS: Orders = {"CreationTime": (Artifact.created, Artifact.name)}


def create(database: Database, caller: Caller, members: Members) -> Members:
    """Store an artifact. Raises ValidationException where there is another of the same source.

    The same once more is the same: a run that logs a curve again as it was needs its ARN, and the SDK knows no other way to it.
    """
    tags.check(members.get("Tags", []))
    source = members["Source"]
    name = artifact_name(source)
    said = {
        "title": members.get("ArtifactName"),
        "type": members["ArtifactType"],
        "properties": members.get("Properties", {}),
        "metadata_properties": members.get("MetadataProperties", {}),
    }
    with database.write() as session:
        known = session.get(Artifact, name)
        if known is not None and not members.get("Tags") and all(getattr(known, key) == said[key] for key in said):
            return {"ArtifactArn": known.arn}
        if known is not None:
            raise validation(f"An artifact of this source already exists: {known.arn}.")
        if (session.scalar(select(func.count()).select_from(Artifact)) or 0) >= ARTIFACTS:
            raise over_limit("Artifacts", ARTIFACTS)
        artifact = Artifact(
            name=name,
            arn=caller.arn_of("sagemaker", f"artifact/{name}"),
            uri=source["SourceUri"],
            source=source,
            **said,
            **authored.made(caller),
        )
        session.add(artifact)
        tags.attach(session, artifact.arn, members.get("Tags", []))
    return {"ArtifactArn": artifact.arn}


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of an artifact."""
    with database.read() as session:
        artifact = _find(session, members["ArtifactArn"])
    return {
        **_summary(artifact),
        "Properties": artifact.properties,
        "CreatedBy": artifact.created_by,
        "LastModifiedBy": artifact.modified_by,
        "MetadataProperties": artifact.metadata_properties or None,
    }


def update(database: Database, caller: Caller, members: Members) -> Members:
    """Change what is given: properties are merged, and lose the keys to remove."""
    with database.write() as session:
        artifact = _find(session, members["ArtifactArn"])
        lost = members.get("PropertiesToRemove", [])
        kept = {key: value for key, value in artifact.properties.items() if key not in lost}
        artifact.properties = {**kept, **members.get("Properties", {})}
        if len(artifact.properties) > PROPERTIES:
            raise validation(
                f"An artifact can have at most {PROPERTIES} Properties; this one would have {len(artifact.properties)}."
            )
        artifact.title = members.get("ArtifactName", artifact.title)
        authored.touch(artifact, caller)
        return {"ArtifactArn": artifact.arn}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget an artifact, told by its ARN or source, that is associated with nothing any more."""
    if ("ArtifactArn" in members) == ("Source" in members):
        raise validation("Either ArtifactArn or Source must be specified, not both.")
    with database.write() as session:
        if "Source" in members:
            known = session.get(Artifact, artifact_name(members["Source"]))
            if known is None:
                raise no_such("Artifact", members["Source"]["SourceUri"])
        else:
            known = _find(session, members["ArtifactArn"])
        count = associations.count(session, known.arn)
        if count:
            raise validation(
                f"The artifact {known.arn} has {count} associations. Only an artifact without associations can be deleted: "
                "delete them first."
            )
        tags.forget(session, known.arn)
        session.delete(known)
    return {"ArtifactArn": known.arn}


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of artifacts, newest first unless another order is asked for."""
    query = select(Artifact, Artifact.name, Artifact.created).where(*between(members, Artifact.created, "Created"))
    if "SourceUri" in members:
        query = query.where(Artifact.uri == members["SourceUri"])
    if "ArtifactType" in members:
        query = query.where(Artifact.type == members["ArtifactType"])
    with database.read() as session:
        rows, more = page(session, query, _ORDERS, members, descending=True)
    return {"ArtifactSummaries": [_summary(row[0]) for row in rows], **more}


def _find(session: Session, arn: str) -> Artifact:
    artifact = session.scalar(select(Artifact).where(Artifact.arn == arn))
    if artifact is None:
        raise no_such("Artifact", arn)
    return artifact


def _summary(artifact: Artifact) -> Members:
    return {
        "ArtifactArn": artifact.arn,
        "ArtifactName": artifact.title,
        "Source": artifact.source,
        "ArtifactType": artifact.type,
        "CreationTime": moment(artifact.created),
        "LastModifiedTime": moment(artifact.modified),
    }
