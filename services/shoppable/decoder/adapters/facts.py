"""What a video is, as its container and its first frame tell."""

from av.video.reformatter import ColorTrc

from shoppable.decoder.adapters.frames import DecodedFrame
from shoppable.decoder.adapters.opening import OpenVideo, codec_name
from shoppable.decoder.adapters.rendering import HDR_TRANSFERS
from shoppable.decoder.domain import MediaKind, StreamFacts, VideoFacts
from shoppable.decoder.geometry import square_size

_KINDS = {"video": MediaKind.VIDEO, "audio": MediaKind.AUDIO, "subtitle": MediaKind.SUBTITLE}
# FFmpeg's names, which PyAV does not tell.
_TRANSFERS: dict[int, str] = {
    ColorTrc.BT709: "bt709",
    ColorTrc.GAMMA22: "gamma22",
    ColorTrc.GAMMA28: "gamma28",
    ColorTrc.SMPTE170M: "smpte170m",
    ColorTrc.SMPTE240M: "smpte240m",
    ColorTrc.LINEAR: "linear",
    ColorTrc.LOG: "log",
    ColorTrc.LOG_SQRT: "log_sqrt",
    ColorTrc.IEC61966_2_4: "iec61966-2-4",
    ColorTrc.BT1361_ECG: "bt1361",
    ColorTrc.IEC61966_2_1: "iec61966-2-1",
    ColorTrc.BT2020_10: "bt2020-10",
    ColorTrc.BT2020_12: "bt2020-12",
    ColorTrc.SMPTE2084: "smpte2084",
    ColorTrc.SMPTE428: "smpte428",
    ColorTrc.ARIB_STD_B67: "arib-std-b67",
}


def facts_of(video: OpenVideo, first: DecodedFrame, *, size_bytes: int | None) -> VideoFacts:
    """Return the facts; `first` is any frame of the video."""
    stream, picture = video.stream, first.picture
    width, height = first.orientation.size(*square_size(picture.width, picture.height, stream.sample_aspect_ratio))
    return VideoFacts(
        container=video.container.format.name,
        codec=codec_name(stream),
        width=width,
        height=height,
        rotation_degrees=first.orientation.rotation_degrees,
        duration_ns=video.duration_ns,
        average_frame_rate=float(stream.average_rate) if stream.average_rate else None,
        frame_count=stream.frames or None,
        pixel_format=picture.format.name,
        color_transfer=_TRANSFERS.get(picture.color_trc, ""),
        hdr=picture.color_trc in HDR_TRANSFERS,
        interlaced=picture.interlaced_frame,
        stream_index=stream.index,
        streams=tuple(
            StreamFacts(each.index, _KINDS.get(each.type, MediaKind.OTHER), codec_name(each))
            for each in video.container.streams
        ),
        size_bytes=size_bytes,
    )
