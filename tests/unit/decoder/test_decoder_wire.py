"""Responses that are written by hand are what the library would have written, read back."""

import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.decoder.wire import frame_response, serialize
from shoppable.v1 import common_pb2, frame_decoder_pb2


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 700_000, 3_000_000])
def test_a_frame_and_its_picture_are_read_back_as_one_message(size):
    picture = bytes(number % 251 for number in range(size))
    image = common_pb2.Image(format=common_pb2.IMAGE_FORMAT_RGB24, width=640, height=360)
    frame = frame_decoder_pb2.Frame(
        index=300, time=Duration(seconds=70, nanos=5), image=image, keyframe=True, scene_cut=True
    )
    read = frame_decoder_pb2.DecodeFramesResponse.FromString(frame_response(frame, memoryview(picture)))
    frame.image.data = picture
    assert read == frame_decoder_pb2.DecodeFramesResponse(frame=frame)


def test_other_responses_are_serialised_as_ever_and_bytes_pass():
    response = frame_decoder_pb2.DecodeFramesResponse(summary=frame_decoder_pb2.DecodeSummary(frames_sent=3))
    assert serialize(response) == response.SerializeToString()
    assert serialize(b"as it is") == b"as it is"
