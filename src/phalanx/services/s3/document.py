"""XML documents in requests of S3."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

from phalanx.wire.errors import AwsError

MALFORMED = AwsError(
    "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
)


def root(document: bytes) -> ElementTree.Element | None:
    """The root of a document without any declarations of types or entities; None for what is none."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")

    def declared(*_: object) -> None:
        raise MALFORMED

    parser.StartDoctypeDeclHandler = declared
    parser.EntityDeclHandler = declared
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(document, True)
        return builder.close()
    except (expat.ExpatError, AwsError, AssertionError, ValueError, LookupError):
        return None


def local(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
