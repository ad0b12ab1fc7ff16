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
PALETTE = (
    *((200, 30, 60), (30, 60, 200), (40, 180, 70), (128, 128, 128)),
    *((250, 250, 250), (10, 10, 10), (230, 200, 40), (20, 200, 200)),
)
# How much red and blue count in luma, by AVColorSpace: BT.709, BT.601, BT.2020.
_LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def draw(number: int, width: int, height: int) -> Pixels:
    """Draw a frame: its number in blocks above, two colours below."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2] = LEFT_COLOUR
    picture[:, width // 2 :] = RIGHT_COLOUR
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        picture[: height // 2, left:right] = 255 if number >> bit & 1 else 0
    return picture


def draw_palette(number: int, width: int, height: int) -> Pixels:
    """Draw a frame: its number in blocks above, eight colours below."""
    picture = draw(number, width, height)
    for position, colour in enumerate(PALETTE):
        picture[height // 2 :, width * position // 8 : width * (position + 1) // 8] = colour
    return picture


def palette_of(picture: Pixels) -> list[tuple[int, ...]]:
    """Read the colours of a picture by `draw_palette`, each from its middle."""
    height, width = picture.shape[:2]
    return [tuple(int(value) for value in picture[height * 3 // 4, width * (2 * n + 1) // 16]) for n in range(8)]


def to_yuv(picture: npt.NDArray[np.floating] | Pixels, pixel_format: str, matrix: int, *, full: bool) -> av.VideoFrame:
    """Convert RGB of 0..255 by the definition of BT.601, 709 or 2020, without swscale, which is what is tested."""
    frame = av.VideoFrame(picture.shape[1], picture.shape[0], pixel_format)
    depth = frame.format.components[0].bits
    red, blue = _LUMA[matrix]
    colours = picture.astype(np.float64) / 255
    luma = colours @ [red, 1 - red - blue, blue]
    chroma = [(colours[..., 2] - luma) / (2 - 2 * blue), (colours[..., 0] - luma) / (2 - 2 * red)]
    peak, middle, unit = 2**depth - 1, 2 ** (depth - 1), 2 ** (depth - 8)
    planes = [luma * peak if full else (16 + 219 * luma) * unit]
    planes += [middle + part * (peak if full else 224 * unit) for part in chroma]
    kind = np.uint8 if depth == 8 else np.uint16
    for plane, values in zip(frame.planes, planes, strict=True):
        down, across = values.shape[0] // plane.height, values.shape[1] // plane.width
        small = values.reshape(plane.height, down, plane.width, across).mean((1, 3))
        rows = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        rows[:, : plane.width] = np.clip(np.round(small), 0, peak)
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


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
    colorspace: int | None = None  # AVColorSpace; its pixels are then made without swscale
    full_range: bool = False
    transfer: int | None = None  # AVColorTransferCharacteristic
    primaries: int | None = None  # AVColorPrimaries
    codec_flags: int = 0
    shift: int = 0  # frames by which all times are moved
    wild: dict[int, int] = field(default_factory=dict)  # frames, and what time each states instead, in frames
    sound: bool = False
    draw: Callable[[int, int, int], Pixels] = draw
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)  # of the container


def encode(clip: Clip) -> bytes:
    """Return the clip's file."""
    options = dict(clip.container_options)
    if clip.container in {"mp4", "mov"} and clip.index_first:
        options.setdefault("movflags", "faststart")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"  # the muxer reads the file again to move its index
        with av.open(str(path), "w", format=clip.container, options=options) as container:
            _mux(container, clip)
        return path.read_bytes()


def _mux(container: "av.container.OutputContainer", clip: Clip) -> None:
    container.metadata.update(clip.metadata)
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
    codec = stream.codec_context
    if clip.colorspace is not None:
        codec.colorspace, codec.color_range = clip.colorspace, 2 if clip.full_range else 1
    if clip.transfer is not None:
        codec.color_trc, codec.color_primaries = clip.transfer, clip.primaries
    codec.flags |= clip.codec_flags
    tick = Fraction(1, 1000) if clip.times_ms else Fraction(1, clip.rate)
    stream.codec_context.time_base = tick
    sound = container.add_stream("aac", rate=44100, layout="stereo") if clip.sound else None
    container.start_encoding()
    for number in range(clip.frames):
        frame = _picture(clip, number)
        frame.pts = clip.times_ms[number] if clip.times_ms else number
        frame.time_base = tick
        _mux_packets(container, stream.encode(frame), clip)
    _mux_packets(container, stream.encode(None), clip)
    if sound is not None:
        _mux_sound(container, sound)


def _picture(clip: Clip, number: int) -> av.VideoFrame:
    drawn = clip.draw(number, *clip.size)
    if clip.colorspace is None:
        return av.VideoFrame.from_ndarray(drawn, "rgb24")
    frame = to_yuv(drawn, clip.pixel_format, clip.colorspace, full=clip.full_range)
    if clip.transfer is not None:
        frame.color_trc, frame.color_primaries = clip.transfer, clip.primaries
    return frame


def _mux_packets(container: "av.container.OutputContainer", packets: "list[av.Packet]", clip: Clip) -> None:
    for packet in packets:
        packet.pts = clip.wild.get(packet.pts, packet.pts + clip.shift)
        packet.dts += clip.shift
        container.mux(packet)


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
    return with_cover(film=False)


def with_cover(*, film: bool) -> bytes:
    """Return an MP4 with sound, a cover of 640 x 640 that is its first stream, and perhaps a film."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 640, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=44100, layout="stereo")
        moving = _add_film(container, (192, 128)) if film else None
        picture = av.VideoFrame.from_ndarray(draw(1, 640, 640), "rgb24")
        picture.pts = 0
        packets = cover.encode(picture) + cover.encode(None)
        _mux_sound(container, sound)
        if moving is not None:
            _mux_numbers(container, moving, range(20))
        container.mux(packets)
    return file.getvalue()


def several_films(sizes: Sequence[tuple[int, int]], *, default: int | None = None) -> bytes:
    """Return a Matroska file of several films of 10 frames; film n begins with the number 100 n."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        films = [_add_film(container, size) for size in sizes]
        for number, stream in enumerate(films):
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for number, stream in enumerate(films):
            _mux_numbers(container, stream, range(100 * number, 100 * number + 10))
    return file.getvalue()


def _add_film(container: "av.container.OutputContainer", size: tuple[int, int]) -> "av.VideoStream":
    stream = container.add_stream("libx264", rate=10)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "12", "preset": "ultrafast"}
    return stream


def _mux_numbers(container: "av.container.OutputContainer", stream: "av.VideoStream", numbers: range) -> None:
    for position, number in enumerate(numbers):
        frame = av.VideoFrame.from_ndarray(draw(number, stream.width, stream.height), "rgb24")
        frame.pts, frame.time_base = position, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


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


def keyframes_of(file: bytes) -> list[int]:
    """Return which frames of a video, in order of their times, are key frames, as PyAV alone tells."""
    with av.open(io.BytesIO(file)) as container:
        return [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]
