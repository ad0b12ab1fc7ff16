"""Counts what becomes of one video: frames, objects and failures, as progress and the summary tell of them."""

from collections.abc import Sequence

from google.rpc import status_pb2

from shoppable.orchestrator.domain import (
    DecodeSummary,
    FoundObject,
    MatchOutcome,
    Options,
    Progress,
    SensitiveRange,
    Summary,
)
from shoppable.orchestrator.errors import reason_of
from shoppable.orchestrator.timing import StageClock
from shoppable.runtime import metrics
from shoppable.runtime.errors import UnavailableError
from shoppable.v1 import common_pb2

_MAX_FAILURES = 20  # kinds of failures that a summary names


class Tally:
    """The counts of one video; the pipeline sets what it learns of the video itself."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.decoding, self.detecting, self.matching = (StageClock(name) for name in ("decode", "detect", "match"))
        self.video = common_pb2.VideoInfo()
        self.decoded = DecodeSummary(0, truncated=False, end_s=None)
        self.models: Sequence[common_pb2.ModelVersion] = ()
        self.objects = self.left_out = 0
        self._unmatched = self._withheld = 0
        self._failures: dict[tuple[str, str], status_pb2.Status] = {}

    def fail(self, stage: str, status: status_pb2.Status) -> None:
        """Note a failure."""
        metrics.STAGE_FAILURES.labels(stage).inc()
        if len(self._failures) < _MAX_FAILURES:
            self._failures.setdefault((stage, reason_of(status)), status)

    def settle(self, found: FoundObject) -> None:
        """Note an object that is final, told or left out."""
        match = found.match
        self._unmatched += bool(match and match.failure)
        if found.withheld:
            self._withheld += 1
            metrics.OBJECTS_WITHHELD.labels(found.withheld.name).inc()
        decision = match.decision.name if match and match.decision else "NONE"
        metrics.OBJECTS_FOUND.labels(decision).inc()

    def check_detected(self) -> None:
        """Raise UnavailableError if no frame at all could be looked at: an empty list would be a lie."""
        if self.detecting.items and self.detecting.failed == self.detecting.items:
            status = next(status for (stage, _), status in self._failures.items() if stage == "detect")
            raise UnavailableError(f"no frame could be looked at: {status.message}", reason="DETECTION_FAILED")

    def progress(self, time_s: float | None, *, dropped: int) -> Progress:
        """Return how far the work is; None is the end."""
        length = self.video.duration.ToMicroseconds() / 1e6 if self.video.HasField("duration") else None
        start_s = self._options.start_s or 0.0
        end_s = min(filter(None, (length, self._options.end_s)), default=None)
        if time_s is None:
            time_s = self.decoded.end_s or end_s or 0.0
            fraction: float | None = 1.0
        else:
            fraction = min(max((time_s - start_s) / (end_s - start_s), 0.0), 1.0) if end_s and end_s > start_s else None
        return Progress(
            time_s=time_s,
            fraction=fraction,
            frames_sampled=self.decoding.items,
            frames_detected=self.detecting.items,
            objects_final=self.objects,
            frames_dropped=dropped,
            segments_matched=self.matching.items,
        )

    def summary(
        self,
        elapsed_s: float,
        *,
        dropped: int,
        searched: MatchOutcome | None,
        sensitive_ranges: Sequence[SensitiveRange],
    ) -> Summary:
        """Return how it went; `searched` is a match that did not fail, if there was one."""
        return Summary(
            video=self.video,
            frames_sampled=self.decoding.items,
            frames_failed=self.detecting.failed,
            objects=self.objects,
            objects_unmatched=self._unmatched,
            decoding=self.decoded,
            detection_models=self.models,
            embedder=searched.embedder if searched else None,
            catalog_revision=searched.catalog_revision if searched else None,
            elapsed_s=elapsed_s,
            stages=[clock.timing() for clock in (self.decoding, self.detecting, self.matching)],
            failures=tuple(self._failures.values()),
            objects_withheld=self._withheld,
            sensitive_ranges=sensitive_ranges,
            opted_out=self._options.offers.opt_out,
            frames_dropped=dropped,
            objects_left_out=self.left_out,
        )
