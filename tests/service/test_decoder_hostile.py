"""Videos that are made to harm: each ends with its own status, soon, and the decoder serves on."""

import itertools
import time

import grpc
import pytest

from load.decoder_mutations import ALLOWED, mutations, sources, verdict
from shoppable.v1 import common_pb2
from support.decoder_calls import Decoder, refusal_of, running_decoder
from support.videos import Clip, encode, several_films

MUTATED = 560


@pytest.fixture
async def decoder(tmp_path):
    async with running_decoder(tmp_path, max_pixels=640 * 480) as decoder:
        yield decoder
        assert len((await decoder.decode(encode(Clip()))).frames) == 15


async def test_560_mutated_files_end_in_order(decoder: Decoder):
    """Of every container and codec, with each sampling; a longer run is `tests/load/decoder_mutations.py`."""
    verdicts = [
        await verdict(decoder, data, number) for number, data in enumerate(mutations(sources(), MUTATED, seed=7))
    ]
    assert len(verdicts) == MUTATED
    assert {"OK", "NOT_A_VIDEO"} <= set(verdicts)


async def test_a_file_cut_at_every_place_of_its_head_ends_in_order(decoder: Decoder):
    file = encode(Clip(frames=3, size=(32, 32)))
    for length in range(1, min(len(file), 900), 9):
        await verdict(decoder, file[:length], number=0)


async def test_many_streams_are_read_as_any_film(decoder: Decoder):
    decoded = await decoder.decode(several_films([(64, 48)] * 60), every_nth_frame=1)
    assert len(decoded.video.streams) == 60
    assert len(decoded.frames) == 10


async def test_very_many_metadata_entries_are_passed_over(decoder: Decoder):
    """20,000 tags of a container, and one of a megabyte."""
    tags = {f"tag {number}": "value" for number in range(20_000)} | {"long": "x" * 2**20}
    decoded = await decoder.decode(encode(Clip(container="matroska", metadata=tags)), every_nth_frame=1)
    assert len(decoded.frames) == 30


async def test_a_stream_that_appears_later_is_passed_over(decoder: Decoder):
    silent, loud = (encode(Clip(container="mpegts", frames=300, sound=sound)) for sound in (False, True))
    decoded = await decoder.decode(silent + loud, every_nth_frame=1)
    assert len(decoded.frames) >= 295
    assert decoded.summary.damaged_packets <= 2


async def test_of_times_that_run_backwards_only_those_that_rise_are_sent(decoder: Decoder):
    film = encode(Clip(container="mpegts", frames=20))
    decoded = await decoder.decode(film + film, every_nth_frame=1)
    assert decoded.times == sorted(set(decoded.times))
    assert decoded.summary.frames_decoded > len(decoded.frames) >= 18


async def test_a_video_of_too_many_frames_ends_with_the_limit():
    async with running_decoder(max_frames=20) as decoder:
        decoded = await decoder.try_decode(encode(Clip()), every_nth_frame=1)
    assert len(decoded.frames) <= 20
    refusal = refusal_of(decoded.error)
    assert (refusal.reason, refusal.metadata["limit"]) == ("FRAME_LIMIT", "20")


def box_changed(file: bytes, kind: bytes, offset: int, *numbers: int) -> bytes:
    """Overwrite numbers of 32 bits in an MP4's only box of a kind, `offset` bytes behind its name."""
    assert file.count(kind) == 1
    at = file.index(kind) + len(kind) + offset
    written = b"".join(number.to_bytes(4) for number in numbers)
    return file[:at] + written + file[at + len(written) :]


async def test_an_index_that_promises_a_billion_frames_is_not_believed(decoder: Decoder):
    """They need no table: all are said to be of one byte, and of one length."""
    film = encode(Clip(b_frames=0))
    promised = box_changed(box_changed(film, b"stsz", 4, 1, 10**9), b"stts", 8, 10**9)
    started = time.monotonic()
    for file, sampling in itertools.product(
        (promised, box_changed(film, b"stsz", 8, 10**9), box_changed(film, b"stts", 8, 10**9)),
        ({"every_nth_frame": 1}, {"timestamps": [0.5, 2.0]}, {"every_nth_frame": 1, "start_time": 1.0}),
    ):
        decoded = await decoder.try_decode(file, **sampling)
        assert len(decoded.frames) <= 30
        assert decoded.error is None or decoded.error.code() in ALLOWED
    assert time.monotonic() - started < 60  # a hang, not a speed


@pytest.mark.parametrize("kind", [b"mdhd", b"mvhd"])
async def test_a_video_that_claims_to_last_for_years_ends_in_order(decoder: Decoder, kind):
    file = box_changed(encode(Clip()), kind, 16, 2**32 - 2)
    decoded = await decoder.try_decode(file, every_nth_frame=1)
    if decoded.error is None:
        assert len(decoded.frames) == 30
    else:
        refusal = refusal_of(decoded.error)
        assert (refusal.reason, refusal.metadata["limit"]) == ("DURATION_LIMIT", str(6 * 3600))


async def test_frames_that_last_no_time_are_sent_once_for_each_time(decoder: Decoder):
    file = box_changed(encode(Clip(b_frames=0)), b"stts", 12, 0)
    decoded = await decoder.decode(file, every_nth_frame=1)
    assert decoded.times == sorted(set(decoded.times))
    assert len(decoded.frames) <= 2  # MP4's last frame may have a length of its own
    assert decoded.summary.frames_decoded == 30


async def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: nothing is stored
    async with running_decoder(tmp_path) as decoder:
        refusal = refusal_of((await decoder.try_decode(common_pb2.VideoSource(uri=path.as_uri()))).error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SIZE_LIMIT")
    assert refusal.metadata == {"limit": str(64 * 2**30), "value": str(2**40)}


async def test_a_file_that_costs_work_and_gives_no_frame_ends_with_the_limit(tmp_path):
    """After a good head, gigabytes in which no packet is found: an endless search."""
    head = encode(Clip(container="mpegts", frames=4))
    path = tmp_path / "endless.ts"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(40 * 2**30)
    async with running_decoder(tmp_path, max_idle_work_s=0.5) as decoder:
        started = time.monotonic()
        decoded = await decoder.try_decode(common_pb2.VideoSource(uri=path.as_uri()), every_nth_frame=1)
        assert time.monotonic() - started < 10
    assert refusal_of(decoded.error).reason == "WORK_LIMIT"
