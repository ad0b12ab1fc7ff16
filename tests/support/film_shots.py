"""The sample film's frames, each with what is really in it."""

import json
from pathlib import Path

import av

from support.moving_scenes import Shot, TrueThing


def film_shots(samples: Path, frames_per_second: float) -> list[Shot]:
    """Return the frames nearest to a rate's moments."""
    truth = json.loads((samples / "ground_truth.json").read_text())
    width, height, rate = truth["width"], truth["height"], truth["fps"]
    names = sorted({thing["product_id"] for frame in truth["frames"] for thing in frame["products"]})
    count = int(len(truth["frames"]) / rate * frames_per_second)
    wanted = [round(number / frames_per_second * rate) for number in range(count)]
    shots: list[Shot] = []
    with av.open(str(samples / "film.mp4")) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index not in wanted:
                continue
            known = truth["frames"][index]
            things = [
                TrueThing(
                    names.index(thing["product_id"]),
                    thing["coco_label"],
                    thing["category"],
                    tuple(edge / length for edge, length in zip(thing["box"], [width, height] * 2, strict=True)),
                    thing["visibility"],
                )
                for thing in known["products"]
            ]
            cut = bool(shots) and known["set"] != truth["frames"][wanted[len(shots) - 1]]["set"]
            shots.append(Shot(index / rate, frame.to_ndarray(format="rgb24"), things, cut))
    return shots
