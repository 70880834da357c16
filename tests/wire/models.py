"""A service model with what no served model has but the protocols define: maps, blobs and numbers in Query requests."""

from __future__ import annotations

from typing import Any

from botocore.model import ServiceModel


def everything(protocol: str) -> ServiceModel:
    """A service with one operation, Echo, whose input and output have members of every type."""

    def called(name: str) -> dict[str, str]:
        # CBOR knows members by their own names alone.
        return {} if protocol == "smithy-rpc-v2-cbor" else {"locationName": name}

    shapes: dict[str, Any] = {
        "Everything": {
            "type": "structure",
            "members": {
                "Text": {"shape": "Text", **called("textName")},
                "Flag": {"shape": "Flag"},
                "Count": {"shape": "Count"},
                "Size": {"shape": "Size"},
                "Ratio": {"shape": "Ratio"},
                "Moment": {"shape": "Moment"},
                "Bytes": {"shape": "Bytes"},
                "Names": {"shape": "Names"},
                "Lists": {"shape": "Lists"},
                "Nested": {"shape": "Everything", **called("nested")},
                "NestedList": {"shape": "NestedList", "queryName": "Inner"},
            },
        },
        "Text": {"type": "string"},
        "Flag": {"type": "boolean"},
        "Count": {"type": "integer"},
        "Size": {"type": "long"},
        "Ratio": {"type": "double"},
        "Moment": {"type": "timestamp"},
        "Bytes": {"type": "blob"},
        "Names": {"type": "list", "member": {"shape": "Text", "locationName": "item"}},
        "Lists": {"type": "list", "member": {"shape": "Names"}},
        "NestedList": {"type": "list", "member": {"shape": "Everything"}},
    }
    if protocol != "ec2":  # EC2 has no maps
        shapes["Everything"]["members"]["Map"] = {"shape": "Map"}
        shapes["Map"] = {"type": "map", "key": {"shape": "Text", "locationName": "Name"}, "value": {"shape": "Everything"}}
    description = {
        "metadata": {
            "apiVersion": "2026-01-01",
            "endpointPrefix": "everything",
            "protocol": protocol,
            "protocols": [protocol],
            "serviceId": "Everything",
            "signatureVersion": "v4",
            "targetPrefix": "Everything",
            "jsonVersion": "1.1",
            "xmlNamespace": "urn:everything",
        },
        "operations": {
            "Echo": {
                "name": "Echo",
                "http": {"method": "POST", "requestUri": "/"},
                "input": {"shape": "Everything"},
                "output": {"shape": "Everything", **({"resultWrapper": "EchoResult"} if protocol == "query" else {})},
            }
        },
        "shapes": shapes,
    }
    return ServiceModel(description, "everything")
