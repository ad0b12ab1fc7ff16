"""Writes the reference page of the protos from their descriptors and comments, REST paths and service configs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2 as pb

_INTRO = """\
# Reference of shoppable.v1

Generated from the protos beside it by `make gen`; never edited.

- **The protos** are the folder `shoppable/v1`. Besides Google's well-known types they need `google/api`, `google/rpc`
  and `google/type` of googleapis. `make protos` lints them with buf, checks that no client breaks, and proves that all
  generated code is fresh.
- **Retries and deadlines** are data: `shoppable/v1/<service>.service_config.json` is a gRPC service config, and every
  client of this repository is built with all of them. A deadline there is the most that a call may take; a caller's
  shorter one wins. A unary call whose repetition does no harm is retried after UNAVAILABLE and CANCELLED. A stream
  that only reads, and AnnotateVideo, each attempt of which is a whole video's work, are retried only after CANCELLED
  and only if nothing was answered yet: with it a server that ends lets go of calls that it had not begun, or could
  not finish within its grace period. Streams that change a catalogue are never retried. A caller that cancels a call
  itself is done with it.
- **REST paths** are google.api.http annotations, for a proxy that turns JSON into gRPC. Only unary calls have one: a
  call in which both sides stream has no form in JSON over HTTP. ServerInfoService is served beside every other
  service; its path leads to whichever the proxy chose.
"""
_SERVICE, _METHOD, _MESSAGE, _ENUM = 6, 2, 4, 5
_FIELD, _NESTED, _NESTED_ENUM, _VALUE = 2, 3, 4, 2
_SYNTAX = (12,)
_TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in pb.FieldDescriptorProto.Type.items()}
_VERBS = ("get", "put", "post", "delete", "patch")
Comments = Mapping[tuple[int, ...], str]


def render(descriptor_set: bytes, service_config: Mapping[str, Any]) -> str:
    """Return the page, as Markdown.

    Args:
        descriptor_set: A FileDescriptorSet with source info, serialised.
        service_config: What the channels of all clients are built with.
    """
    files = [file for file in pb.FileDescriptorSet.FromString(descriptor_set).file if file.package == "shoppable.v1"]
    policies = {
        (name["service"], name["method"]): policy
        for policy in service_config["methodConfig"]
        for name in policy["name"]
    }
    lines = [_INTRO]
    for file in sorted(files, key=lambda file: (not file.service, file.name)):
        lines += _file(file, policies)
    return "\n".join(lines).rstrip() + "\n"


def _file(file: pb.FileDescriptorProto, policies: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
    yield f"## {file.name.rpartition('/')[2]}\n\n{_text(comments.get(_SYNTAX, ''))}\n"
    for index, service in enumerate(file.service):
        yield from _service(service, f"{file.package}.{service.name}", (_SERVICE, index), comments, policies)
    for index, message in enumerate(file.message_type):
        yield from _message(message, message.name, (_MESSAGE, index), comments)
    for index, enum in enumerate(file.enum_type):
        yield from _enum(enum, enum.name, (_ENUM, index), comments)


def _service(
    service: pb.ServiceDescriptorProto,
    full_name: str,
    path: tuple[int, ...],
    comments: Comments,
    policies: Mapping[tuple[str, str], Any],
) -> Iterator[str]:
    yield f"### {service.name}\n\n{_text(comments[path])}\n"
    for index, method in enumerate(service.method):
        policy = policies[full_name, method.name]
        retry = policy.get("retryPolicy")
        yield f"#### {service.name}.{method.name}\n\n{_text(comments[(*path, _METHOD, index)])}\n"
        retries = (
            f"up to {retry['maxAttempts']} attempts after {' or '.join(retry['retryableStatusCodes'])}"
            if retry
            else "not retried"
        )
        facts = [_shape(method), *(f"REST: {rule}" for rule in _rest(method))]
        # A backslash breaks the line without a list, which would run into that of the errors.
        yield "\\\n".join([*facts, f"Deadline: at most {policy['timeout']}; {retries}"]) + "\n"


def _shape(method: pb.MethodDescriptorProto) -> str:
    asked, answered = _link(method.input_type), _link(method.output_type)
    return (
        f"{'stream of ' if method.client_streaming else ''}{asked} → "
        f"{'stream of ' if method.server_streaming else ''}{answered}"
    )


def _rest(method: pb.MethodDescriptorProto) -> Iterator[str]:
    if not method.options.HasExtension(annotations_pb2.http):
        return
    rule = method.options.Extensions[annotations_pb2.http]
    for one in (rule, *rule.additional_bindings):
        yield _rule(one)


def _rule(rule: http_pb2.HttpRule) -> str:
    verb = next(verb for verb in _VERBS if getattr(rule, verb))
    body = {"": "", "*": ", the request as body"}.get(rule.body, f", `{rule.body}` as body")
    return f"`{verb.upper()} {getattr(rule, verb)}`{body}"


def _message(message: pb.DescriptorProto, name: str, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    yield f"### {name}\n\n{_text(comments.get(path, ''))}\n"
    if message.field:
        yield "| field | type | meaning |\n| --- | --- | --- |"
    for index, field in enumerate(message.field):
        place = (*path, _FIELD, index)
        union = ""
        if field.HasField("oneof_index") and not field.proto3_optional:
            union = f" (one of `{message.oneof_decl[field.oneof_index].name}`)"
        yield f"| `{field.name}` = {field.number} | {_type(field, entries)}{union} | {_cell(comments.get(place, ''))} |"
    if message.field:
        yield ""
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(nested, f"{name}.{nested.name}", (*path, _NESTED, index), comments)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.{enum.name}", (*path, _NESTED_ENUM, index), comments)


def _enum(enum: pb.EnumDescriptorProto, name: str, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### {name}\n\n{_text(comments.get(path, ''))}\n\n| value | meaning |\n| --- | --- |"
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {_cell(comments.get((*path, _VALUE, index), ''))} |"
    yield ""


def _type(field: pb.FieldDescriptorProto, entries: Mapping[str, pb.DescriptorProto]) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = (_type(part, {}) for part in entry.field)
        return f"map of {key} to {value}"
    name = _link(field.type_name) if field.type_name else _TYPES[field.type]
    if field.label == pb.FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _link(type_name: str) -> str:
    full = type_name.lstrip(".")
    own = full.removeprefix("shoppable.v1.")
    return f"[{own}](#{own.replace('.', '').lower()})" if own != full else full


def _text(comment: str) -> str:
    return "\n".join(_unindented(comment))


def _cell(comment: str) -> str:
    return " ".join(_unindented(comment)).replace("|", "\\|")


def _unindented(comment: str) -> Iterable[str]:
    return (line.removeprefix(" ") for line in comment.splitlines())
