"""Without a GPU, all is decoded in software, and a log line says so. With one, nothing here is tested."""

import io
from pathlib import Path

import av
import pytest
from structlog.testing import capture_logs

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.settings import DecoderSettings
from support import videos
from support.decoder_calls import pixels_of, running_decoder
from support.videos import Clip, encode, number_of

without_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="needs a machine without an NVIDIA GPU")


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
    settings = DecoderSettings()
    guards = Guards(
        formats=settings.formats,
        codecs=settings.codecs,
        max_pixels=settings.max_pixels,
        max_duration_ns=10**15,
        max_frames=100,
        max_idle_work_s=9,
        decode_threads=1,
        device="cuda",
    )
    video = VideoFile(io.BytesIO(file), guards, size_bytes=len(file), keyframes_only=False)
    assert not video.accelerated
    assert sum(frame is not None for frame in video.frames(0)) >= 20
    video.close()


async def test_no_device_is_looked_for_unless_it_is_wished_for():
    with capture_logs() as logs:
        async with running_decoder(hardware="none"):
            pass
    assert not [line for line in logs if "GPU" in line["event"]]


def test_ffmpeg_knows_nvdec():
    assert "cuda" in av.codec.hwaccel.hwdevices_available()
