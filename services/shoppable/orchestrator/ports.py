"""What the pipeline needs of others."""

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Protocol

from shoppable.orchestrator.domain import (
    DecodeSummary,
    DetectedFrame,
    Frame,
    MatchOptions,
    MatchOutcome,
    Options,
    View,
)
from shoppable.v1 import common_pb2, product_matcher_pb2


class FrameSource(Protocol):
    """Decodes videos."""

    def decode(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes], options: Options
    ) -> AsyncGenerator[common_pb2.VideoInfo | Frame | DecodeSummary, None]:
        """Yield the video's info, its sampled frames, and a summary. Raises ServiceError."""
        ...

    async def probe(self, source: common_pb2.VideoSource) -> common_pb2.VideoInfo:
        """Return what a video is; not for an upload. Raises ServiceError."""
        ...

    async def limits(self) -> dict[str, int]:
        """Return the decoder's limits by name. Raises ServiceError."""
        ...


class ObjectDetector(Protocol):
    """Finds objects in frames."""

    async def check(self, options: Options) -> None:
        """Raise ServiceError if a category or model is none of the detector's, or it cannot be asked."""
        ...

    async def categories(self) -> frozenset[str]:
        """Return all categories that an object may have. Raises ServiceError."""
        ...

    def detect(
        self, frames: AsyncIterable[Frame], options: Options
    ) -> AsyncGenerator[DetectedFrame | Sequence[common_pb2.ModelVersion], None]:
        """Yield the models once, then each frame with its detections, in order. Raises ServiceError."""
        ...


class ContentClassifier(Protocol):
    """Judges frames."""

    async def score(self, frame: Frame) -> float:
        """Return how sensitive a frame is, 0..1. Raises ServiceError if it cannot be told."""
        ...


class ProductMatcher(Protocol):
    """Finds products."""

    async def check(self, options: MatchOptions) -> None:
        """Raise ServiceError if the catalogue or the filter cannot be used; pass if it cannot be asked now."""
        ...

    async def embedder(self, catalog: str) -> tuple[common_pb2.ModelVersion, int]:
        """Return the model of a catalogue's embeddings, and how many values one has. Raises ServiceError."""
        ...

    async def match(
        self,
        looks: Sequence[View] | Sequence[product_matcher_pb2.Embedding],
        category: str,
        options: MatchOptions,
    ) -> MatchOutcome:
        """Return what a thing may be, by its views or by their embeddings. A failure of this thing is in the outcome.

        Raises ServiceError for what will fail every other thing too, such as a catalogue that is gone.
        """
        ...
