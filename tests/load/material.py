"""What the requests of a sweep are made of: the catalogues in the suite, and parts of the sample film."""

import io
import json
from pathlib import Path

import av
from scenarios import CATALOG, CHANGED, LABELLED, Material

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, OrchestratorClient, open_channel
from shoppable.local.data_folder import Endpoints
from shoppable.local.locations import SAMPLES
from shoppable.v1 import common_pb2, orchestrator_pb2

_FILM = SAMPLES / "film.mp4"
_LIMIT_S = 120


async def prepare(endpoints: Endpoints) -> Material:
    """Fill the catalogues, annotate two seconds of the film, and return the material."""
    async with open_channel(endpoints.matcher) as channel:
        client = CatalogClient(channel)
        for catalog in (CATALOG, LABELLED):
            await import_feed(client, SAMPLES / "catalog.jsonl", catalog=catalog.removeprefix("catalogs/"))
        await client.create_catalog(CHANGED.removeprefix("catalogs/"))
    async with open_channel(endpoints.orchestrator) as channel:
        options = orchestrator_pb2.AnnotateOptions(
            catalog=CATALOG, end_time={"seconds": 2}, omit_thumbnails=True, include_rematch_state=True
        )
        source = common_pb2.VideoSource(uri=_FILM.as_uri())
        answer = await OrchestratorClient(channel).annotate(source, options, timeout_s=_LIMIT_S)
    found = [orchestrator_pb2.RematchObject(object_id=one.object_id, state=one.rematch_state) for one in answer.objects]
    product = json.loads((SAMPLES / "catalog.jsonl").read_text().splitlines()[0])
    return Material(
        film_uri=_FILM.as_uri(),
        film=clip(_FILM, seconds=1),
        picture=(SAMPLES / product["images"][0]).read_bytes(),
        frame=first_frame(_FILM),
        product_id=product["product_id"],
        found=found,
    )


def clip(film: Path, *, seconds: float) -> bytes:
    """Return the first seconds of a film as MPEG-TS, its packets as they are."""
    output = io.BytesIO()
    with av.open(str(film)) as source, av.open(output, "w", format="mpegts") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or float(packet.dts * packet.time_base) >= seconds:
                continue
            packet.stream = copied
            target.mux(packet)
    return output.getvalue()


def first_frame(film: Path) -> bytes:
    """Return the first frame of a film as JPEG, 640 pixels wide."""
    output = io.BytesIO()
    with av.open(str(film)) as source:
        picture = next(source.decode(video=0)).to_image()
    picture.thumbnail((640, 640))
    picture.save(output, "JPEG", quality=90)
    return output.getvalue()
