"""What was learned about comparing: the means to subtract, and how sure a likeness is. One comes with the package.

A catalogue of the suite's embedder uses the package's (`everyday.json`, made by `tools/fit_confidence.py`) until it is
calibrated by itself. One of another embedder has none until then: its pictures are compared by plain cosines, and its
confidences are a guess (`confidence.json`).
"""

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from shoppable.matcher.calibration import Calibration, load_calibration, parse_calibration
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.centring import Centring, Means

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Fit:
    """How a catalogue's pictures are compared, and what that comes to."""

    centring: Centring | None
    calibration: Calibration

    def to_text(self) -> str:
        """Return it as a catalogue's record keeps it. Without means there is nothing to keep."""
        if self.centring is None:
            return ""
        values = {
            "format": _FORMAT,
            "references": self.centring.references.to_json(),
            "queries": self.centring.queries.to_json(),
            "confidence": self.calibration.to_json(),
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=64)
def read_fit(text: str) -> Fit:
    """Read what `to_text` wrote.

    Raises:
        ValueError: It is no such text.
    """
    return _parse(json.loads(text))


def fit_of(record: CatalogRecord) -> Fit:
    """Return what a catalogue is compared by."""
    if record.fit:
        return read_fit(record.fit)
    embedder, shipped = everyday()
    return shipped if record.rooted and record.embedder == embedder else _plain()


@cache
def everyday() -> tuple[ModelIdentity, Fit]:
    """Return the fit that the package brings, and the embedder that it is of."""
    values = json.loads(resources.files("shoppable.matcher").joinpath("everyday.json").read_text(encoding="utf-8"))
    embedder = values["embedder"]
    return ModelIdentity(embedder["name"], embedder["version"], int(embedder["size"])), _parse(values)


@cache
def _plain() -> Fit:
    return Fit(None, load_calibration())


def _parse(values: dict[str, Any]) -> Fit:
    try:
        if values["format"] != _FORMAT:
            raise ValueError(f"a fit of format {values['format']} cannot be read")
        centring = Centring(Means.from_json(values["references"]), Means.from_json(values["queries"]))
        return Fit(centring, parse_calibration(values["confidence"]))
    except (KeyError, TypeError) as error:
        raise ValueError("this is no fit") from error
