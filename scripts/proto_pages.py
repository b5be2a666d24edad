"""The reference's pages about the protos, from the comments in their descriptors."""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc
from tables import cell, escaped, table

from sessiond import errors as client_errors

PROTOS = Path(__file__).resolve().parent.parent / "protos"
PACKAGE = "sessiond.v1"
ERRORS_PROTO = "sessiond/v1/error_reason.proto"

# Field numbers of descriptor.proto. The paths of comments consist of such numbers.
PACKAGE_PATH = (2,)
MESSAGE, ENUM, SERVICE = 4, 5, 6
FIELD, METHOD, VALUE = 2, 2, 2

Field = FieldDescriptorProto
Comments = dict[tuple[int, ...], str]


def pages() -> dict[str, str]:
    """Return the pages' texts by name."""
    protos = _descriptors()
    homes = _homes(protos)
    services = {
        _page_of(proto): ProtoPage(proto, homes).text()
        for proto in protos
        if proto.name != ERRORS_PROTO
    }
    errors = next(proto for proto in protos if proto.name == ERRORS_PROTO)
    return services | {"protos": _index_of_protos(protos), "errors": _errors(errors)}


def _descriptors() -> list[FileDescriptorProto]:
    """Return the project's protos with their comments, sorted by name."""
    names = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("sessiond/**/*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "set"
        include = [f"--proto_path={PROTOS}", f"--proto_path={files('grpc_tools') / '_proto'}"]
        if protoc.main(
            ["protoc", *include, "--include_source_info", f"--descriptor_set_out={result}", *names]
        ):
            sys.exit("protoc failed")
        return list(FileDescriptorSet.FromString(result.read_bytes()).file)


def _page_of(proto: FileDescriptorProto) -> str:
    return f"proto-{Path(proto.name).stem.replace('_', '-')}"


def _homes(protos: list[FileDescriptorProto]) -> dict[str, str]:
    """Return the page of each message and enum, by full name."""
    return {
        f".{PACKAGE}.{kind.name}": "errors" if proto.name == ERRORS_PROTO else _page_of(proto)
        for proto in protos
        for kind in (*proto.message_type, *proto.enum_type)
    }


def _comments(proto: FileDescriptorProto) -> Comments:
    return {
        tuple(location.path): _prose(location.leading_comments or location.trailing_comments)
        for location in proto.source_code_info.location
        if location.leading_comments or location.trailing_comments
    }


def _prose(comment: str) -> str:
    """Return a comment as one paragraph of Markdown."""
    return escaped(" ".join(comment.split()))


def _anchor(name: str) -> str:
    return name.lower()


class ProtoPage:
    """One proto file as a page.

    Args:
        proto: the file.
        homes: the page of each message and enum, by full name.
    """

    def __init__(self, proto: FileDescriptorProto, homes: dict[str, str]) -> None:
        self._proto = proto
        self._homes = homes
        self._comments = _comments(proto)
        self._page = _page_of(proto)

    def text(self) -> str:
        """Return the page's text."""
        title = (
            self._proto.service[0].name
            if self._proto.service
            else Path(self._proto.name).stem.replace("_", " ").capitalize()
        )
        parts = [f"# {title}", f"`{self._proto.name}`", self._comments.get(PACKAGE_PATH, "")]
        for i, service in enumerate(self._proto.service):
            parts.append(self._comments.get((SERVICE, i), ""))
            for j, method in enumerate(service.method):
                request = self._link(method.input_type, method.client_streaming)
                response = self._link(method.output_type, method.server_streaming)
                parts += [
                    f"## {method.name} {{ #rpc-{_anchor(method.name)} }}",
                    f"{request} → {response}",
                    self._comments.get((SERVICE, i, METHOD, j), ""),
                ]
        kinds: list[tuple[str, str]] = [
            (m.name, self._message(i, m)) for i, m in enumerate(self._proto.message_type)
        ]
        kinds += [(e.name, self._enum(i, e)) for i, e in enumerate(self._proto.enum_type)]
        if self._proto.service:
            parts.append("## Messages")
        level = "###" if self._proto.service else "##"
        parts += [f"{level} {name} {{ #{_anchor(name)} }}\n\n{text}" for name, text in kinds]
        return "\n\n".join(part for part in parts if part)

    def _message(self, i: int, message: DescriptorProto) -> str:
        rows = [
            (field.name, self._type(message, field), self._comments.get((MESSAGE, i, FIELD, j), ""))
            for j, field in enumerate(message.field)
        ]
        head = self._comments.get((MESSAGE, i), "")
        if not rows:
            return f"{head}\n\nNo fields."
        return f"{head}\n\n" + table(
            ("field", "type", "meaning"),
            [(f"`{name}`", kind, cell(text)) for name, kind, text in rows],
        )

    def _enum(self, i: int, enum: EnumDescriptorProto) -> str:
        rows = [
            (f"`{value.name}` = {value.number}", cell(self._comments.get((ENUM, i, VALUE, j), "")))
            for j, value in enumerate(enum.value)
        ]
        return f"{self._comments.get((ENUM, i), '')}\n\n" + table(("value", "meaning"), rows)

    def _type(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        if field.type in (Field.TYPE_MESSAGE, Field.TYPE_ENUM):
            for entry in message.nested_type:
                if entry.options.map_entry and field.type_name.endswith(f".{entry.name}"):
                    key, value = (self._type(entry, part) for part in entry.field)
                    return f"map of {key} to {value}"
            kind = self._link(field.type_name)
        else:
            kind = Field.Type.Name(field.type).removeprefix("TYPE_").lower()
        if field.label == Field.LABEL_REPEATED:
            return f"repeated {kind}"
        if field.proto3_optional:
            return f"optional {kind}"
        if field.HasField("oneof_index"):
            return f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
        return kind

    def _link(self, full_name: str, is_stream: bool = False) -> str:
        name = full_name.rpartition(".")[2]
        home = self._homes.get(full_name)
        page = "" if home == self._page else f"{home}.md"
        shown = f"[{name}]({page}#{_anchor(name)})" if home else f"`{full_name.removeprefix('.')}`"
        return f"stream of {shown}" if is_stream else shown


def _index_of_protos(protos: list[FileDescriptorProto]) -> str:
    parts = [
        "# The gRPC contract",
        f"Package `{PACKAGE}`. The files are in `protos/sessiond/v1`; "
        "[Other languages](../../guides/other-languages.md) says how to "
        "generate a client.",
    ]
    for proto in protos:
        comments = _comments(proto)
        for i, service in enumerate(proto.service):
            rows = [
                (
                    f"[{m.name}]({_page_of(proto)}.md#rpc-{_anchor(m.name)})",
                    cell(_first_sentence(comments.get((SERVICE, i, METHOD, j), ""))),
                )
                for j, m in enumerate(service.method)
            ]
            parts += [
                f"## {service.name}",
                comments.get((SERVICE, i), ""),
                table(("RPC", "what it does"), rows),
            ]
    shared = [
        f"[{Path(p.name).stem}]({_page_of(p)}.md)"
        for p in protos
        if not p.service and p.name != ERRORS_PROTO
    ]
    parts += [
        "## Types that services share",
        ", ".join(shared) + "; [reasons of errors](errors.md).",
    ]
    return "\n\n".join(parts)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.:] (?=[A-Z])", text, maxsplit=1)[0].rstrip(".:") + "."


def _errors(proto: FileDescriptorProto) -> str:
    comments = _comments(proto)
    classes = {
        getattr(client_errors, name).reason: name
        for name in client_errors.__all__
        if hasattr(getattr(client_errors, name), "reason")
    }
    rows = []
    for j, value in enumerate(proto.enum_type[0].value):
        reason = value.name.removeprefix("ERROR_REASON_")
        code, _, text = comments.get((ENUM, 0, VALUE, j), "").partition(": ")
        if value.number:
            rows.append(
                (
                    f'<span id="{_anchor(reason)}">`{reason}`</span>',
                    f"`{code}`",
                    f"`{classes[reason]}`",
                    cell(text),
                )
            )
    return "\n\n".join(
        [
            "# Reasons of errors { #errorreason }",
            comments.get((ENUM, 0), ""),
            "In Python each reason has a class of its own; [Errors](../../guides/errors.md) says "
            "how to catch them.",
            table(("reason", "status code", "Python class", "meaning"), rows),
        ]
    )
