"""Turns a video into the list of things one can buy in it.

In a notebook: `shoppable.annotate("film.mp4", catalog="sample")`. From a service: `shoppable.client`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoppable.notebook import annotate as annotate

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Found when it is asked for: the base install has only what a client needs.
    if name == "annotate":
        from shoppable.notebook import annotate

        return annotate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
