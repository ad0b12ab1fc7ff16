"""Videos that the tests make with FFmpeg's own encoders. Each frame shows its number as blocks of black and white."""

import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

BITS = 12
LEFT_COLOUR = (200, 30, 60)
RIGHT_COLOUR = (30, 60, 200)


def draw(number: int, width: int, height: int) -> Pixels:
    """Draw a frame: its number in blocks above, two colours below."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2] = LEFT_COLOUR
    picture[:, width // 2 :] = RIGHT_COLOUR
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        picture[: height // 2, left:right] = 255 if number >> bit & 1 else 0
    return picture


def number_of(picture: Pixels) -> int:
    """Read a frame's number, at whatever size."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(BITS):
        middle = width * (2 * bit + 1) // (2 * BITS)
        number |= int(picture[height // 4, middle].mean() > 127) << bit
    return number


@dataclass(frozen=True)
class Clip:
    """How a test's video is made."""

    frames: int = 30
    rate: int = 10
    size: tuple[int, int] = (192, 128)
    container: str = "mp4"
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    gop: int = 12
    b_frames: int = 2
    index_first: bool = True  # of MP4: where the moov box is
    rotation: int | None = None  # degrees anticlockwise to turn the stored picture upright, as the display matrix says
    times_ms: Sequence[int] | None = None  # of each frame, for variable frame rates
    aspect: Fraction | None = None  # width to height of a pixel
    colorspace: int | None = None  # AVColorSpace
    sound: bool = False
    draw: Callable[[int, int, int], Pixels] = draw
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


def encode(clip: Clip) -> bytes:
    """Return the clip's file."""
    options = dict(clip.container_options)
    if clip.container == "mp4" and clip.index_first:
        options.setdefault("movflags", "faststart")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"  # the muxer reads the file again to move its index
        with av.open(str(path), "w", format=clip.container, options=options) as container:
            _mux(container, clip)
        return path.read_bytes()


def _mux(container: "av.container.OutputContainer", clip: Clip) -> None:
    stream = container.add_stream(clip.codec, rate=clip.rate)
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pixel_format
    stream.gop_size = clip.gop
    # Key frames where the tests expect them, and a picture that can be read after decoding.
    x264 = {"crf": "12", "preset": "veryfast", "sc_threshold": "0"} if clip.codec == "libx264" else {}
    stream.options = {**x264, **clip.options}
    if clip.codec == "libx264":
        stream.max_b_frames = clip.b_frames
    if clip.rotation is not None:
        stream.set_display_rotation(clip.rotation)
    if clip.aspect is not None:
        stream.codec_context.sample_aspect_ratio = clip.aspect
    if clip.colorspace is not None:
        stream.codec_context.colorspace = clip.colorspace
    tick = Fraction(1, 1000) if clip.times_ms else Fraction(1, clip.rate)
    stream.codec_context.time_base = tick
    sound = container.add_stream("aac", rate=44100, layout="stereo") if clip.sound else None
    container.start_encoding()
    for number in range(clip.frames):
        frame = av.VideoFrame.from_ndarray(clip.draw(number, *clip.size), "rgb24")
        if clip.colorspace is not None:
            frame = frame.reformat(format=clip.pixel_format, dst_colorspace=clip.colorspace)
            frame.colorspace = clip.colorspace
        frame.pts = clip.times_ms[number] if clip.times_ms else number
        frame.time_base = tick
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if sound is not None:
        _mux_sound(container, sound)


def _mux_sound(container: "av.container.OutputContainer", stream: "av.AudioStream") -> None:
    for number in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 44100, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def sound_only() -> bytes:
    """Return an MP4 without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        _mux_sound(container, container.add_stream("aac", rate=44100, layout="stereo"))
    return file.getvalue()


def cover_only() -> bytes:
    """Return an MP4 whose only picture is its cover."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44100, layout="stereo")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(draw(1, 64, 64), "rgb24")
        picture.pts = 0
        packets = cover.encode(picture) + cover.encode(None)
        _mux_sound(container, sound)
        container.mux(packets)
    return file.getvalue()


@functools.cache  # drawing and encoding takes seconds
def bomb(side: int = 8192) -> bytes:
    """Return a small file with huge frames."""
    return encode(
        Clip(
            frames=2,
            size=(side, side),
            b_frames=0,
            options={"preset": "ultrafast"},
            draw=lambda number, width, height: np.full((height, width, 3), number * 40, np.uint8),
        )
    )


def packets_of(file: bytes) -> list[tuple[int, int]]:
    """Return where the packets of an MP4's video are: position and size, in order of decoding."""
    with av.open(io.BytesIO(file)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def damage(file: bytes, packets: Sequence[int]) -> bytes:
    """Overwrite the contents of some of an MP4's packets."""
    damaged = bytearray(file)
    places = packets_of(file)
    for number in packets:
        position, size = places[number]
        damaged[position : position + size] = bytes(size)
    return bytes(damaged)


def times_of(file: bytes) -> list[Fraction]:
    """Return the times of a video's frames, in order, as PyAV alone tells them."""
    with av.open(io.BytesIO(file)) as container:
        stream = container.streams.video[0]
        ticks = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        return [(tick - (stream.start_time or 0)) * stream.time_base for tick in ticks]
