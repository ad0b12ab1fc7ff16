"""An import against its embedder alone: `make bench-import`.

Rounds in turns on one Triton: the embedder is kept busy with as many pictures at a time as the matcher may have there,
and a feed of new pictures is imported through command, server and index, into an empty catalogue. The figure is the
ratio of the rates.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, open_channel
from shoppable.local.suite import LocalSuite, SuiteOptions
from shoppable.matcher.adapters.triton import TritonEmbedder
from shoppable.matcher.settings import MatcherSettings
from shoppable.runtime import inference, triton_connection

SIDE = 480  # of a shop's picture, in pixels


def write_feed(folder: Path, images: int, seed: int) -> Path:
    """Write a feed of products with two pictures each, no two alike."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    feed = folder / "feed.jsonl"
    with feed.open("w") as file:
        for number in range(images // 2):
            names = [f"{number}-{place}.jpg" for place in range(2)]
            for name in names:
                blocks = chance.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / name, quality=85)
            file.write(json.dumps({"product_id": f"p{number}", "title": f"Product {number}", "images": names}) + "\n")
    return feed


async def embed_alone(triton_endpoint: str, images: int) -> float:
    """Return the embedder's pictures a second."""
    settings = MatcherSettings(triton_endpoint=triton_endpoint)
    async with triton_connection.connect(settings) as triton:
        model = inference.Model(triton, "embedder", input_name="images", output_name="embeddings", timeout_s=60)
        embedder = TritonEmbedder(model, in_flight=settings.embeds_in_flight)
        picture = np.random.default_rng(0).integers(0, 256, (embedder.side, embedder.side, 3), dtype=np.uint8)
        started = time.monotonic()
        await asyncio.gather(*(embedder.embed([picture]) for _ in range(images)))
        return images / (time.monotonic() - started)


async def import_once(matcher: str, feed: Path, catalog: str, images: int) -> float:
    """Return the import's pictures a second."""
    async with open_channel(matcher) as channel:
        client = CatalogClient(channel)
        await client.create_catalog(catalog)
        started = time.monotonic()
        report = await import_feed(client, feed, catalog=catalog)
        seconds = time.monotonic() - started
    assert (report.created, report.broken) == (images // 2, [])
    return images / seconds


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400, help="pictures a round, even")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of both, after one to warm up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shoppable-bench-") as name:
        scratch = Path(name)
        options = SuiteOptions(data_folder=scratch / "data", log_folder=scratch / "logs", services=("matcher",))
        async with LocalSuite(options) as suite:
            ratios = []
            for number in range(arguments.rounds + 1):
                feed = write_feed(scratch / f"feed-{number}", arguments.images, seed=number)
                alone = await embed_alone(suite.endpoints.inference, arguments.images)
                whole = await import_once(suite.endpoints.matcher, feed, f"shop-{number}", arguments.images)
                ratios.append(whole / alone)
                print(f"embedder alone {alone:.1f}/s, import {whole:.1f}/s, ratio {whole / alone:.2f}")
    print(f"median ratio {statistics.median(ratios[1:]):.2f} of {arguments.rounds} rounds")


if __name__ == "__main__":
    asyncio.run(main())
