"""Server reflection in both of its versions.

grpcio-reflection serves `grpc.reflection.v1alpha` only; newer tools ask for `grpc.reflection.v1` first. The two have
the same messages, field for field, so one servicer answers for both.
"""

import contextlib
from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

_ALPHA, _STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
_METHOD = "ServerReflectionInfo"
_SERVICES = tuple(f"{package}.ServerReflection" for package in (_ALPHA, _STABLE))


class _Servicer(reflection.aio.ReflectionServicer):
    """Also finds methods by their names, which the protocol promises and protobuf's search for symbols leaves out."""

    def _file_containing_symbol(
        self, request: reflection_pb2.ServerReflectionRequest, symbol: str
    ) -> reflection_pb2.ServerReflectionResponse:
        with contextlib.suppress(KeyError):  # something else, or nothing
            symbol = descriptor_pool.Default().FindMethodByName(symbol).containing_service.full_name
        return super()._file_containing_symbol(request, symbol)  # type: ignore[misc,no-any-return]  # not in the stubs


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Serve reflection of the services with these full names, and of itself."""
    pool = descriptor_pool.Default()
    _describe_stable(pool)
    servicer = _Servicer([*services, *_SERVICES], pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, {_METHOD: handler}) for name in _SERVICES)
    )


def _describe_stable(pool: descriptor_pool.DescriptorPool) -> None:
    """Add the descriptor of v1, so that reflection can tell of itself."""
    try:
        pool.FindFileContainingSymbol(_SERVICES[1])
    except KeyError:
        alpha = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        # Names of the package occur in types as text; the two differ by nothing else.
        text = text_format.MessageToString(alpha).replace(_ALPHA, _STABLE)
        stable = descriptor_pb2.FileDescriptorProto()
        text_format.Parse(text, stable)
        stable.name = "grpc/reflection/v1/reflection.proto"
        pool.Add(stable)
