"""Damages videos at random and shows them to the decoder: `python tests/load/decoder_mutations.py --files 20000`.

A few hundred run with the tests; this is the longer run. It prints how many files ended in which status.
"""

import argparse
import asyncio
import collections
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.decoder_calls import Decoder, refusal_of, running_decoder
from support.videos import Clip, encode

ALLOWED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DATA_LOSS}
SAMPLINGS: tuple[dict[str, object], ...] = (
    {"every_nth_frame": 1},
    {"keyframes_only": {}, "longest_side": 32},
    {"timestamps": [0.1, 0.5, 0.9]},
    {"scenes": {}, "longest_side": 17},
    {"every_nth_frame": 1, "start_time": 0.6},
)


def sources() -> list[bytes]:
    """Return small videos of each container and codec."""
    small = {"frames": 12, "size": (64, 48)}
    clips = [
        *(Clip(container=container, **small) for container in ("mp4", "matroska", "mpegts", "mov")),
        Clip(container="mp4", container_options={"movflags": "frag_keyframe+empty_moov"}, **small),
        Clip(container="mpegts", codec="libx265", options={"x265-params": "log-level=none"}, **small),
        Clip(container="webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}, **small),
        Clip(container="webm", codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"}, **small),
        Clip(container="mp4", codec="libsvtav1", options={"preset": "10"}, **small),
        Clip(container="avi", codec="mpeg4", options={"bf": "2"}, **small),
        Clip(container="mpegts", codec="mpeg2video", **{**small, "rate": 25}),
        Clip(container="mov", codec="prores_ks", pixel_format="yuv422p10le", **small),
        Clip(container="avi", codec="mjpeg", pixel_format="yuvj420p", **small),
        Clip(container="gif", codec="gif", pixel_format="rgb8", **small),
    ]
    return [encode(clip) for clip in clips]


def mutations(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: bits flipped, runs overwritten, pieces moved or cut out, ends cut off."""
    random = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(files[number % len(files)])
        kind = random.integers(5)
        at, length = int(random.integers(len(data))), int(random.integers(1, 200))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at : at + length] = random.bytes(length)
        elif kind == 3:
            data[at:at] = data[at // 2 : at // 2 + length]
        for _ in range(int(random.integers(0 if kind < 4 else 1, 30))):
            if data:
                data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        yield bytes(data) or b"x"


async def verdict(decoder: Decoder, data: bytes, number: int) -> str:
    """Show a file to the decoder, check what must hold of any file, and return the reason it was refused for, if so."""
    decoded = await decoder.try_decode(data, **SAMPLINGS[number % len(SAMPLINGS)])
    times = [frame.time.ToNanoseconds() for frame in decoded.frames]
    assert times == sorted(set(times))
    assert all(time_ns >= 0 for time_ns in times)
    if decoded.error is None:
        assert decoded.summary is not None
        return "OK"
    assert decoded.error.code() in ALLOWED, decoded.error
    return refusal_of(decoded.error).reason


async def run(count: int, seed: int) -> collections.Counter[str]:
    """Show `count` files."""
    found: collections.Counter[str] = collections.Counter()
    async with running_decoder(max_pixels=640 * 480) as decoder:
        for number, data in enumerate(mutations(sources(), count, seed)):
            found[await verdict(decoder, data, number)] += 1
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for reason, count in asyncio.run(run(arguments.files, arguments.seed)).most_common():
        print(f"{count:8} {reason}")


if __name__ == "__main__":
    main()
