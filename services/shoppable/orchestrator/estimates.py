"""What videos have cost this process, by which the next one's time is foretold."""

from collections.abc import Mapping

from shoppable.orchestrator.domain import Summary

_MEMORY = 0.8  # share of the old estimate that is kept with each video
_MIN_FRAMES = 10  # a shorter video says more of start-up than of frames


class CostEstimates:
    """Seconds for each sampled frame, of the whole and of each stage, averaged over videos; late ones count more."""

    def __init__(self) -> None:
        self.videos = 0
        self._whole_s = 0.0
        self._by_stage: dict[str, float] = {}

    def add(self, summary: Summary) -> None:
        """Take in a video that was finished."""
        frames = summary.frames_sampled - summary.frames_dropped
        if frames < _MIN_FRAMES:
            return
        keep = _MEMORY if self.videos else 0.0
        self.videos += 1
        self._whole_s = keep * self._whole_s + (1 - keep) * summary.elapsed_s / frames
        for timing in summary.stages:
            before = self._by_stage.get(timing.stage, timing.busy_s / frames)
            self._by_stage[timing.stage] = keep * before + (1 - keep) * timing.busy_s / frames

    def whole_s(self, frames: int | None) -> float | None:
        """Return how long so many frames would take; None if there is no basis for it."""
        return self._whole_s * frames if frames is not None and self.videos else None

    def stages_s(self, frames: int | None) -> Mapping[str, float]:
        """Return for how long each stage would have work; empty if there is no basis for it."""
        return {stage: cost * frames for stage, cost in self._by_stage.items()} if frames is not None else {}
