"""A camera whose picture never ends: a film, over and over, encoded and sent while it is filmed."""

import asyncio
import bisect
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path

import av

# What an ingest process sends: a container that can be decoded as it comes, and how it is written so.
CONTAINERS = {
    "mpegts": {},
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
}
_SENT_KEPT = 4096  # moments: memory must be flat on this side too


class LiveCamera:
    """Films `film` again and again for `seconds`. Times go on at each seam."""

    def __init__(
        self,
        film: Path,
        *,
        seconds: float,
        container: str = "mpegts",
        rate: int = 12,
        clock_s: float = 0.0,
        paced: bool = True,
    ) -> None:
        """Send MPEG-TS or fragmented MP4, `rate` frames a second: with more than the film has, it goes by faster.

        `clock_s` is what the camera's clock shows at the start. Unless `paced`, all is sent as fast as it is taken.
        """
        self._film = film
        self._seconds = seconds
        self._container = container
        self._rate = rate
        self._options = CONTAINERS[container] | {"output_ts_offset": str(clock_s)}
        self._paced = paced
        self._sent: list[tuple[float, float]] = []  # moments of the stream, and when (`time.monotonic`) each was sent
        self._stopped = False
        self.filmed = 0  # frames
        self.over = False

    def stop(self) -> None:
        """End the film after the frame that is filmed now."""
        self._stopped = True

    @property
    def sent_s(self) -> float:
        """The latest moment of the stream that was sent."""
        return self._sent[-1][0] if self._sent else 0.0

    def lag_s(self, moment_s: float) -> float:
        """Return how long ago a moment of the stream was sent."""
        place = bisect.bisect_left(self._sent, (moment_s, 0.0))
        return time.monotonic() - self._sent[min(place, len(self._sent) - 1)][1]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes, each as soon as its frame is filmed and encoded."""
        started = time.monotonic()
        encoded = self._encoded()
        while (item := await asyncio.to_thread(next, encoded, None)) is not None:
            moment_s, data = item
            if self._paced:
                await asyncio.sleep(started + moment_s - time.monotonic())
            self._sent.append((moment_s, time.monotonic()))
            del self._sent[:-_SENT_KEPT]
            if data:
                yield data
        self.over = True

    def _encoded(self) -> Iterator[tuple[float, bytes]]:
        """Yield each moment with the bytes that its frame made; often none in MP4, which writes a second at a time."""
        pipe = _Pipe()
        with av.open(pipe, "w", format=self._container, options=self._options) as output:
            with av.open(str(self._film)) as film:
                size = film.streams.video[0].width, film.streams.video[0].height
            stream = output.add_stream("libx264", rate=self._rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.gop_size = self._rate
            stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
            count = int(self._seconds * self._rate)
            for number, picture in enumerate(itertools.islice(_again_and_again(self._film), count)):
                if self._stopped:
                    break
                self.filmed = number + 1
                frame = picture.reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, self._rate)
                frame.pict_type = av.video.frame.PictureType.NONE
                output.mux(stream.encode(frame))
                yield number / self._rate, pipe.take()
            output.mux(stream.encode(None))
        yield self.filmed / self._rate, pipe.take()


def _again_and_again(film: Path) -> Iterator[av.VideoFrame]:
    for _ in itertools.count():
        with av.open(str(film)) as container:
            yield from container.decode(video=0)


class _Pipe:
    """What the muxer writes to: it cannot go back."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._written = bytes(self._written), bytearray()
        return taken
