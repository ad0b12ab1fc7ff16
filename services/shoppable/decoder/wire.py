"""Writes a frame's response as protobuf's bytes, with a single copy of its picture.

A message would copy the picture when it is set and again when it is serialised, while the event loop and the decoding
threads wait. Protobuf merges a field that comes in parts: so the small fields are left to the library, and the picture
follows as a second part of the same frame.
"""

from typing import Any

import grpc

from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc

_LENGTH_DELIMITED = 2  # the wire type


def _tag(message: Any, field: str) -> bytes:
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_FRAME = _tag(frame_decoder_pb2.DecodeFramesResponse, "frame")
_IMAGE = _tag(frame_decoder_pb2.Frame, "image")
_DATA = _tag(common_pb2.Image, "data")


def frame_response(frame: frame_decoder_pb2.Frame, picture: memoryview) -> bytes:
    """Return a DecodeFramesResponse of a frame, whose image has all but its data, and the data, which is contiguous."""
    data = _DATA + _varint(picture.nbytes)
    image = _IMAGE + _varint(len(data) + picture.nbytes) + data
    small = frame.SerializeToString()
    return b"".join((_FRAME, _varint(len(small) + len(image) + picture.nbytes), small, image, picture))


def serialize(response: frame_decoder_pb2.DecodeFramesResponse | bytes) -> bytes:
    """Return a response as bytes, if it is not yet."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def register(servicer: frame_decoder_pb2_grpc.FrameDecoderServiceServicer, server: grpc.aio.Server) -> None:
    """Register as the generated function does, but let DecodeFrames answer with bytes as well."""
    service = frame_decoder_pb2.DESCRIPTOR.services_by_name["FrameDecoderService"]
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ProbeVideo": grpc.unary_unary_rpc_method_handler(
            servicer.ProbeVideo,
            request_deserializer=frame_decoder_pb2.ProbeVideoRequest.FromString,
            response_serializer=frame_decoder_pb2.ProbeVideoResponse.SerializeToString,
        ),
        "DecodeFrames": grpc.stream_stream_rpc_method_handler(
            servicer.DecodeFrames,
            request_deserializer=frame_decoder_pb2.DecodeFramesRequest.FromString,
            response_serializer=serialize,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
