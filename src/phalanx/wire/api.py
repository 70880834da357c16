"""A service as its protocol presents it: requests to members, members and errors to answers.

One class for each protocol that AWS's control planes speak: AWS JSON (sagemaker, logs), REST JSON (sagemaker-metrics), Smithy
RPC v2 CBOR (cloudwatch), AWS Query (sts, iam), EC2 Query (ec2).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from botocore.model import OperationModel, ServiceModel, StructureShape

from phalanx.wire.cbor import CONTENT_TYPE as CBOR
from phalanx.wire.cbor import FROM_CBOR, TO_CBOR, cbor_body, cbor_document
from phalanx.wire.errors import AwsError
from phalanx.wire.loader import service_model
from phalanx.wire.parser import JsonParsers, StrictJsonParsers, json_document, serialization_error
from phalanx.wire.query import Ec2Parsers, QueryParsers, parameter_tree, query_parameters
from phalanx.wire.serializer import JsonSerializers, XmlSerializers, json_body, xml_text
from phalanx.wire.service import READING, Handler, Members, Service
from phalanx.wire.sigv4 import HttpRequest, Reason, Refused
from phalanx.wire.validator import Ec2Validators, Validators, validate

FAULT_NAMESPACE = "http://webservices.amazon.com/AWSFault/2005-15-09"
INTERNAL_FAILURE = AwsError(
    "InternalFailure", "The request processing has failed because of an unknown error, exception or failure.", 500
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `error` is the error's code, `headers` are those of its protocol alone."""

    status: int
    content_type: str
    body: bytes
    error: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that is served. `read` takes the body or parameters to validated members, `write` a response to a body."""

    name: str
    handler: Handler
    read: Callable[[Any], Members]
    write: Callable[[Members, str], bytes]


@dataclass(frozen=True, slots=True)
class ModelledError:
    """How an error of the model is written: its code on the wire, its HTTP status, the name of its message."""

    code: str
    status: int | None
    message_key: str


class Api(ABC):
    """A service in its protocol."""

    refusals: ClassVar[Mapping[Reason, tuple[str, int, str | None]]]
    """Code, HTTP status and, where it is not the reason's own, text of each reason to refuse a request."""
    denial: ClassVar[tuple[str, int, str]] = ("AccessDenied", 403, "")
    """Code, HTTP status and the beginning of the text where the caller may not do this."""

    def __init__(self, service: Service, model: ServiceModel) -> None:
        """Compile the operations of `service`. Raises ValueError for a handler of an operation that the model lacks."""
        self.name = service.name
        self.signing_name = model.signing_name
        self.version = str(model.api_version)
        self._errors = _modelled_errors(model)
        self._modelled = frozenset(model.operation_names)
        unknown = sorted(set(service.handlers) - self._modelled)
        if unknown:
            raise ValueError(f"{service.name} has no operation {', '.join(unknown)}")
        self.operations = {
            name: self._operation(model.operation_model(name), handler) for name, handler in service.handlers.items()
        }

    @abstractmethod
    def _operation(self, model: OperationModel, handler: Handler) -> Operation:
        """Compile an operation."""

    @abstractmethod
    def _named(self, request: HttpRequest) -> str:
        """What a request calls its operation, be that the service's or not."""

    def claimed_operation(self, request: HttpRequest) -> str:
        """The name of the operation that a request says to be for; empty where that is none of the service's."""
        name = self._named(request)
        return name if name in self.operations else ""

    def read(self, request: HttpRequest) -> tuple[Operation, Members]:
        """The operation that an authenticated request is for, and its validated members. Raises AwsError."""
        name = self._named(request)
        operation = self.operations.get(name)
        if operation is None:
            raise self._not_served(name)
        return operation, operation.read(request.body)

    def _not_served(self, name: str) -> AwsError:
        """The error for an operation that is not served; of one that AWS has it says that Phalanx has not."""
        error = self.unknown_operation(name)
        if name in self._modelled:
            return AwsError(error.code, f"The operation {name} is not supported by this version of Phalanx.", error.status)
        return error

    @abstractmethod
    def answer(self, operation: Operation, response: Members, request_id: str) -> Answer:
        """A successful answer."""

    @classmethod
    @abstractmethod
    def error(cls, code: str, message: str, status: int, request_id: str, message_key: str = "message") -> Answer:
        """An error in the protocol's shape."""

    @classmethod
    def fault(cls, error: AwsError, request_id: str) -> Answer:
        """An error in the protocol's shape, under its own code and status whatever the model says."""
        return cls.error(error.code, error.message, error.status, request_id)

    @classmethod
    @abstractmethod
    def unknown_operation(cls, name: str) -> AwsError:
        """The error for an operation that does not exist or is not served."""

    @classmethod
    def refusal(cls, refused: Refused, request_id: str) -> Answer:
        """The answer to a request that is not from whom it says."""
        code, status, text = cls.refusals[refused.reason]
        return cls.error(code, text or refused.message, status, request_id)

    def denied(self, message: str, request_id: str) -> Answer:
        """The answer to a caller who may not do this."""
        code, status, opening = self.denial
        return self.error(code, opening + message, status, request_id)

    def failure(self, error: AwsError, request_id: str) -> Answer:
        """The answer where an operation raised `error`, under the code and status of the model where it is modelled."""
        modelled = self._errors.get(error.code)
        if modelled is None:
            return self.fault(error, request_id)
        status = error.status if modelled.status is None or error.status != 400 else modelled.status
        return self.error(modelled.code, error.message, status, request_id, modelled.message_key)


Notation = tuple[Callable[[bytes], dict[str, Any]], Callable[[Any], bytes], JsonParsers, JsonSerializers]
"""How documents are written: body to document, document to body, members of a document and back."""


class JsonApi(Api):
    """A service that speaks AWS JSON 1.0 or 1.1."""

    refusals: ClassVar[Mapping[Reason, tuple[str, int, str | None]]] = {
        Reason.UNSIGNED: ("MissingAuthenticationTokenException", 400, None),
        Reason.INCOMPLETE: ("IncompleteSignatureException", 400, None),
        Reason.UNKNOWN_KEY: ("UnrecognizedClientException", 400, None),
        Reason.BAD_SIGNATURE: ("InvalidSignatureException", 400, None),
        Reason.EXPIRED: ("InvalidSignatureException", 400, None),
        Reason.EXPIRED_TOKEN: ("ExpiredTokenException", 400, None),
        Reason.THROTTLED: ("ThrottlingException", 400, None),
    }
    denial = ("AccessDeniedException", 400, "")

    def __init__(self, service: Service, model: ServiceModel) -> None:
        self.target_prefix = str(model.metadata.get("targetPrefix", ""))
        self._content_type = self._type(model)
        self._load, self._dump, self._parsers, self._serializers = self._notation()
        self._changing = StrictJsonParsers(self._parsers.scalars) if service.strict else self._parsers
        codes = ("ValidationException", "InvalidParameterException", "ValidationError")
        self._validators = {code: Validators(code) for code in codes}
        super().__init__(service, model)

    @staticmethod
    def _type(model: ServiceModel) -> str:
        return f"application/x-amz-json-{model.metadata.get('jsonVersion', '1.1')}"

    def _notation(self) -> Notation:
        return json_document, json_body, JsonParsers(), JsonSerializers()

    def _validators_of(self, model: OperationModel) -> Validators:
        if "awsQueryCompatible" in model.service_model.metadata:
            return self._validators["ValidationError"]
        # CloudWatch Logs' older operations call it InvalidParameterException; each operation's model says which it knows.
        modelled = any(shape.name == "InvalidParameterException" for shape in model.error_shapes)
        return self._validators["InvalidParameterException" if modelled else "ValidationException"]

    def _operation(self, model: OperationModel, handler: Handler) -> Operation:
        parse = check = serialize = None
        validators, load, dump = self._validators_of(model), self._load, self._dump
        if model.input_shape is not None:
            parsers = self._parsers if model.name.startswith(READING) else self._changing
            parse, check = parsers.of(model.input_shape), validators.of(model.input_shape)
        if model.output_shape is not None:
            serialize = self._serializers.of(model.output_shape)

        def read(body: bytes) -> Members:
            document = load(body)
            if parse is None or check is None:
                return {}
            try:
                members: Members = parse(document)
                validate(check, validators, members)
            except RecursionError:
                raise serialization_error("The request body is nested too deeply.") from None
            return members

        def write(response: Members, request_id: str) -> bytes:
            return b"" if serialize is None else dump(serialize(response))

        return Operation(model.name, handler, read, write)

    def _named(self, request: HttpRequest) -> str:
        """The end of X-Amz-Target, all of it where it is not for this service: with a dot it is no operation's name."""
        prefix, _, name = request.headers.get("x-amz-target", b"").decode("latin-1").rpartition(".")
        return name if prefix == self.target_prefix and request.method == "POST" else f"{prefix}.{name}"

    def answer(self, operation: Operation, response: Members, request_id: str) -> Answer:
        """A successful answer."""
        return Answer(200, self._content_type, operation.write(response, request_id))

    @classmethod
    def error(cls, code: str, message: str, status: int, request_id: str, message_key: str = "message") -> Answer:
        """An error in the protocol's shape."""
        return Answer(status, "application/x-amz-json-1.1", json_body({"__type": code, message_key: message}), code)

    @classmethod
    def unknown_operation(cls, name: str) -> AwsError:
        """The error for an operation that does not exist or is not served."""
        return AwsError("UnknownOperationException", f"The operation {name[:128]} is not valid for this web service.")


class RestJsonApi(JsonApi):
    """A service that speaks REST JSON, where method and path name the operation and all else is in the body."""

    def __init__(self, service: Service, model: ServiceModel) -> None:
        super().__init__(service, model)
        calls = ((name, model.operation_model(name).http) for name in self.operations)
        self._names = {(http["method"], http["requestUri"].encode()): name for name, http in calls}
        self.paths = sorted({(path.decode(), method) for method, path in self._names})
        """Path and method of each operation."""

    @staticmethod
    def _type(model: ServiceModel) -> str:
        return "application/json"

    def _named(self, request: HttpRequest) -> str:
        return self._names.get((request.method, request.path)) or request.path.decode("latin-1")


_QUERY_REFUSALS: Mapping[Reason, tuple[str, int, str | None]] = {
    Reason.UNSIGNED: ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    Reason.INCOMPLETE: ("IncompleteSignature", 400, None),
    Reason.UNKNOWN_KEY: ("InvalidClientTokenId", 403, None),
    Reason.BAD_SIGNATURE: ("SignatureDoesNotMatch", 403, None),
    Reason.EXPIRED: ("SignatureDoesNotMatch", 403, None),
    Reason.EXPIRED_TOKEN: ("ExpiredToken", 403, None),
    Reason.THROTTLED: ("Throttling", 400, None),
}
"""What AWS Query says to a request that is not, or wrongly, signed."""


class CborApi(JsonApi):
    """A service that speaks Smithy RPC v2 CBOR, and whose errors kept the codes they had in AWS Query (awsQueryCompatible)."""

    headers: ClassVar[tuple[tuple[bytes, bytes], ...]] = ((b"smithy-protocol", b"rpc-v2-cbor"),)
    refusals = _QUERY_REFUSALS
    denial = ("AccessDenied", 403, "")

    def _notation(self) -> Notation:
        return cbor_document, cbor_body, JsonParsers(FROM_CBOR), JsonSerializers(TO_CBOR)

    def _named(self, request: HttpRequest) -> str:
        """The end of the path `/service/SERVICE/operation/NAME`."""
        return request.path.decode("latin-1").rpartition("/")[2]

    def answer(self, operation: Operation, response: Members, request_id: str) -> Answer:
        """A successful answer."""
        return Answer(200, CBOR, operation.write(response, request_id), headers=self.headers)

    @classmethod
    def error(cls, code: str, message: str, status: int, request_id: str, message_key: str = "message") -> Answer:
        """An error in the protocol's shape."""
        kind = "Sender" if status < 500 else "Receiver"
        headers = (*cls.headers, (b"x-amzn-query-error", f"{code};{kind}".encode("ascii", "replace")))
        return Answer(status, CBOR, cbor_body({"__type": code, message_key: message}), code, headers)


_ACTION = re.compile(rb"(?:^|&)Action=([A-Za-z0-9]+)")


class QueryApi(Api):
    """A service that speaks AWS Query."""

    content_type = "text/xml; charset=UTF-8"
    refusals = _QUERY_REFUSALS

    def __init__(self, service: Service, model: ServiceModel) -> None:
        self._namespace = str(model.metadata["xmlNamespace"])
        self._parsers = self._make_parsers()
        self._validators = self._make_validators()
        self._serializers = XmlSerializers()
        super().__init__(service, model)

    def _make_parsers(self) -> QueryParsers:
        return QueryParsers()

    def _make_validators(self) -> Validators:
        return Validators("ValidationError")

    def _operation(self, model: OperationModel, handler: Handler) -> Operation:
        parse = check = None
        if model.input_shape is not None:
            parse, check = self._parsers.of(model.input_shape), self._validators.of(model.input_shape)

        def read(parameters: dict[str, str]) -> Members:
            tree = parameter_tree(parameters)
            if parse is None or check is None:
                return {}
            members: Members = parse(tree, "")
            validate(check, self._validators, members)
            return members

        return Operation(model.name, handler, read, self._writer(model))

    def _writer(self, model: OperationModel) -> Callable[[Members, str], bytes]:
        """Writes the operation's element with its result, wrapped as the model says, and the metadata."""
        write_result = None
        wrapper = f"{model.name}Result"
        if model.output_shape is not None:
            write_result = self._serializers.of(model.output_shape)
            wrapper = model.output_shape.serialization.get("resultWrapper", wrapper)
        opening = f'<{model.name}Response xmlns="{self._namespace}">'
        closing = f"</{model.name}Response>"

        def write(response: Members, request_id: str) -> bytes:
            out = [opening]
            if write_result is not None:
                out.append(f"<{wrapper}>")
                write_result(out, response)
                out.append(f"</{wrapper}>")
            out.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>{closing}")
            return "".join(out).encode()

        return write

    def _named(self, request: HttpRequest) -> str:
        found = _ACTION.search(request.body if request.method == "POST" else request.query)
        return "" if found is None else found[1].decode()

    def read(self, request: HttpRequest) -> tuple[Operation, Members]:
        """The operation by the parameter Action, and its members. Raises AwsError."""
        parameters = query_parameters(request.body if request.method == "POST" else request.query)
        name = parameters.get("Action")
        if not name:
            raise AwsError("MissingAction", "The request must contain the parameter Action")
        operation = self.operations.get(name)
        if operation is None:
            raise self._not_served(name)
        return operation, operation.read(parameters)

    def answer(self, operation: Operation, response: Members, request_id: str) -> Answer:
        """A successful answer."""
        return Answer(200, self.content_type, operation.write(response, request_id))

    @classmethod
    def error(cls, code: str, message: str, status: int, request_id: str, message_key: str = "message") -> Answer:
        """An error in the protocol's shape."""
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            f'<ErrorResponse xmlns="{FAULT_NAMESPACE}"><Error><Type>{kind}</Type><Code>{xml_text(code)}</Code>'
            f"<Message>{xml_text(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Answer(status, cls.content_type, body.encode(), code)

    @classmethod
    def unknown_operation(cls, name: str) -> AwsError:
        """The error for an operation that does not exist or is not served."""
        return AwsError("InvalidAction", f"The action {name[:128]} is not valid for this web service.")


class Ec2Api(QueryApi):
    """A service that speaks EC2 Query."""

    refusals: ClassVar[Mapping[Reason, tuple[str, int, str | None]]] = {
        Reason.UNSIGNED: ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
        Reason.INCOMPLETE: ("IncompleteSignature", 400, None),
        Reason.UNKNOWN_KEY: ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        Reason.BAD_SIGNATURE: ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
        Reason.EXPIRED: ("RequestExpired", 400, "Request has expired."),
        Reason.EXPIRED_TOKEN: ("RequestExpired", 400, "Request has expired."),
        Reason.THROTTLED: ("RequestLimitExceeded", 503, "Request limit exceeded."),
    }
    denial = ("UnauthorizedOperation", 403, "You are not authorized to perform this operation. ")

    def _make_parsers(self) -> QueryParsers:
        return Ec2Parsers()

    def _make_validators(self) -> Validators:
        return Ec2Validators(self._parsers.wire_name)

    def _writer(self, model: OperationModel) -> Callable[[Members, str], bytes]:
        """Writes the operation's element with the request id and the members; `return` where there are none to have."""
        write_result = None if model.output_shape is None else self._serializers.of(model.output_shape)
        opening = f'<{model.name}Response xmlns="{self._namespace}/">'
        closing = f"</{model.name}Response>"

        def write(response: Members, request_id: str) -> bytes:
            out = [opening, f"<requestId>{request_id}</requestId>"]
            if write_result is None:
                out.append("<return>true</return>")
            else:
                write_result(out, response)
            out.append(closing)
            return "".join(out).encode()

        return write

    @classmethod
    def error(cls, code: str, message: str, status: int, request_id: str, message_key: str = "message") -> Answer:
        """An error in the protocol's shape."""
        body = (
            f"<Response><Errors><Error><Code>{xml_text(code)}</Code><Message>{xml_text(message)}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
        return Answer(status, cls.content_type, body.encode(), code)


PROTOCOLS: dict[str, type[Api]] = {
    "smithy-rpc-v2-cbor": CborApi,
    "json": JsonApi,
    "rest-json": RestJsonApi,
    "query": QueryApi,
    "ec2": Ec2Api,
}


def apis(service: Service) -> list[Api]:
    """A service in every protocol of its model, that which botocore speaks first. Raises KeyError for one that is not spoken
    here."""
    model = service_model(service.name)
    first = str(model.resolved_protocol)
    return [PROTOCOLS[name](service, model) for name in sorted(model.metadata["protocols"], key=lambda name: name != first)]


def _modelled_errors(model: ServiceModel) -> dict[str, ModelledError]:
    """The model's errors by shape name and by code."""
    found = {}
    for shape in model.error_shapes:
        trait = shape.metadata.get("error", {})
        code = str(trait.get("code", shape.name))
        status = trait.get("httpStatusCode")
        key = "Message" if isinstance(shape, StructureShape) and "Message" in shape.members else "message"
        found[shape.name] = found[code] = ModelledError(code, status, key)
    return found
