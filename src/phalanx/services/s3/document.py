"""S3's XML documents."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree
from xml.parsers import expat

from phalanx.wire.errors import AwsError
from phalanx.wire.serializer import xml_text

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
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


def compose(root: str, content: str) -> bytes:
    """A document of S3's namespace; `content` is the XML in its root."""
    return f'{DECLARATION}<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{root}>'.encode()


def elements(texts: Mapping[str, str]) -> str:
    """An element for each text, by its name."""
    return "".join(f"<{name}>{xml_text(text)}</{name}>" for name, text in texts.items())


def local(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
