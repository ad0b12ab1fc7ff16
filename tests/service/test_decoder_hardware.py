"""Without a GPU, all is decoded in software, and a log line says so. With one, it decodes the same frames.

The machines that run these tests have no GPU: what needs one is skipped there, and has not run yet. Where there is one:
`pytest tests/service/test_decoder_hardware.py`, and `make bench-decoder HARDWARE=cuda` for how fast.
"""

import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from structlog.testing import capture_logs

from shoppable.decoder.adapters.hardware import device_failure
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.server import guards_of
from shoppable.decoder.settings import DecoderSettings
from support import videos
from support.decoder_calls import pixels_of, running_decoder
from support.videos import Clip, encode, number_of

X265 = {"x265-params": "log-level=none"}
without_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="needs a machine without an NVIDIA GPU")
with_gpu = pytest.mark.skipif(device_failure("cuda") is not None, reason="needs an NVIDIA GPU that decodes (NVDEC)")


@without_gpu
@pytest.mark.parametrize(("wish", "level"), [("cuda", "warning"), ("auto", "info")])
async def test_without_a_gpu_films_are_decoded_in_software_and_a_log_line_says_so(wish, level):
    with capture_logs() as logs:
        async with running_decoder(hardware=wish) as decoder:
            decoded = await decoder.decode(encode(Clip()), every_nth_frame=1)
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == list(range(30))
    lines = [line for line in logs if "in software" in line["event"]]
    assert [(line["log_level"], line["hardware"]) for line in lines] == [(level, wish)]


@without_gpu
@pytest.mark.parametrize("file", [encode(Clip(sound=True)), videos.with_cover(film=True)])
def test_a_gpu_that_is_gone_when_a_film_is_opened_does_no_harm(file):
    guards = replace(guards_of(DecoderSettings()), device="cuda")
    video = VideoFile(io.BytesIO(file), guards, size_bytes=len(file), keyframes_only=False)
    assert not video.accelerated
    assert sum(frame is not None for frame in video.frames(0)) >= 20
    video.close()


@with_gpu
@pytest.mark.parametrize(
    "made",
    [
        Clip(size=(640, 384)),
        Clip(size=(640, 384), codec="libx265", options=X265),
        Clip(size=(640, 384), codec="libx265", options=X265, pixel_format="yuv420p10le"),
    ],
    ids=["h264", "hevc", "hevc of 10 bits"],
)
async def test_a_gpu_decodes_the_frames_that_software_does(made):
    file = encode(made)
    with capture_logs() as logs:
        async with running_decoder(hardware="cuda") as gpu, running_decoder() as software:
            found, expected = [await each.decode(file, every_nth_frame=1) for each in (gpu, software)]
    assert [line for line in logs if line["event"].startswith("decoding on a GPU")]
    assert not [line for line in logs if "in software" in line["event"]]
    assert found.times == expected.times
    for on_gpu, by_software in zip(found.frames, expected.frames, strict=True):
        assert np.abs(pixels_of(on_gpu).astype(int) - pixels_of(by_software)).mean() < 3


async def test_no_device_is_looked_for_unless_it_is_wished_for():
    with capture_logs() as logs:
        async with running_decoder(hardware="none"):
            pass
    assert not [line for line in logs if "GPU" in line["event"]]


def test_ffmpeg_knows_nvdec():
    assert "cuda" in av.codec.hwaccel.hwdevices_available()
