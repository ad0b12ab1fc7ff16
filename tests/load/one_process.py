"""What the suite is measured against: the same job as a plain program, one step after the other, in one process.

It decodes, detects with both models, follows objects, embeds their best views and searches, with the same models,
sampling, thresholds and number of views. It serves nobody, checks nothing and survives nothing: that is the point.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from shoppable.detector import settings as detector_settings
from shoppable.detector.detections import Candidates, DetectionOptions
from shoppable.detector.fusion import Findings, fuse
from shoppable.detector.layouts import layout_of
from shoppable.detector.letterbox import Letterbox
from shoppable.detector.manifest import ModelSpec, read_manifests
from shoppable.detector.suppression import suppress
from shoppable.detector.taxonomy import read_taxonomy
from shoppable.local.locations import MODEL_REPOSITORY
from shoppable.orchestrator.domain import Box, DetectedFrame, Detection, Frame, Pixels
from shoppable.orchestrator.following import Follower
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.v1 import common_pb2

_EMBEDDER_SIDE = 260  # pixels
_TINY_S = 1e-6


@dataclass
class Run:
    """What a run took and found."""

    seconds: float = 0.0
    by_stage: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    frames: int = 0
    tracks: int = 0
    views: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        started = time.perf_counter()
        yield
        self.by_stage[stage] += time.perf_counter() - started


class OneProcess:
    """The program. Its models are loaded before the clock starts, as the suite's are."""

    def __init__(self, threads: int, catalogue: npt.NDArray[np.float32]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads of an idle session would spin on the cores that the next session needs: 5.7 s for the film, not 7.9.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._catalogue = catalogue

        def session(name: str) -> onnxruntime.InferenceSession:
            path = MODEL_REPOSITORY / name / "1" / "model.onnx"
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        defaults = detector_settings.DetectorSettings()
        self._specs = read_manifests(defaults.models)
        self._taxonomy = read_taxonomy(defaults.taxonomy_file, self._specs)
        self._fusion_iou = defaults.fusion_iou
        self._detectors = [session(spec.name) for spec in self._specs]
        self._embedder = session("embedder")

    def annotate(self, film: Path, start_s: float = 0.0, end_s: float = math.inf) -> Run:
        """Do the whole job once, or for a span of the film."""
        run, settings = Run(), OrchestratorSettings()
        started = time.perf_counter()
        pixels: dict[int, Pixels] = {}
        follower = Follower(
            max_gap_s=settings.max_gap_s,
            min_observations=settings.min_observations,
            views_per_object=settings.views_per_object,
            read_pixels=lambda frame: pixels[frame.index],
        )
        ended = []
        for frame, picture in self._frames(film, settings, run, start_s, end_s):
            with run.timed("detect"):
                detections = self._detect(picture)
            with run.timed("follow"):
                pixels = {frame.index: picture}
                ended += follower.take(DetectedFrame(frame, detections))
        with run.timed("follow"):
            ended += follower.finish()
        for track in ended:
            with run.timed("match"):
                for view in track.views:
                    self._search(view.crop)
                    run.views += 1
        run.seconds = time.perf_counter() - started
        run.tracks = len(ended)
        return run

    def _frames(
        self, film: Path, settings: OrchestratorSettings, run: Run, start_s: float, end_s: float
    ) -> Iterator[tuple[Frame, Pixels]]:
        side = settings.default_longest_side
        interval, due = 1 / settings.default_frames_per_second, start_s
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start_s:
                container.seek(int(start_s / stream.time_base), stream=stream)
            decoded = container.decode(stream)
            while True:
                with run.timed("decode"):
                    picture = next((frame for frame in decoded if frame.time >= due - _TINY_S), None)
                    if picture is None or picture.time >= end_s:
                        return
                    scale = min(1.0, side / max(picture.width, picture.height))
                    size = {"width": round(picture.width * scale), "height": round(picture.height * scale)}
                    rgb = picture.reformat(format="rgb24", **size).to_ndarray()
                due = ((picture.time + _TINY_S) // interval + 1) * interval
                yield Frame(run.frames, picture.time, common_pb2.Image(), scene_cut=False), rgb
                run.frames += 1

    def _detect(self, pixels: Pixels) -> list[Detection]:
        findings = [
            self._find(spec, session, pixels) for spec, session in zip(self._specs, self._detectors, strict=True)
        ]
        found = fuse(findings, DetectionOptions(), iou=self._fusion_iou)
        return [Detection(item.label, item.category, Box(*item.box), item.score) for item in found]

    def _find(self, spec: ModelSpec, session: onnxruntime.InferenceSession, pixels: Pixels) -> Findings:
        _, input_height, input_width, _ = session.get_inputs()[0].shape
        box = Letterbox.fit(pixels.shape[1], pixels.shape[0], input_width=input_width, input_height=input_height)
        outputs = {"candidates": session.run(None, {"images": box.draw(pixels)})[0][0]}
        candidates = layout_of(spec).read(outputs, width=input_width, height=input_height)
        candidates = candidates.take(candidates.scores >= spec.min_score)
        candidates = candidates.take(
            suppress(candidates.boxes, candidates.scores, candidates.classes, iou=spec.nms_iou)
        )
        boxes, kept = box.clip(box.to_picture(candidates.boxes))
        return Findings(
            spec.name,
            self._taxonomy.sorts(spec.name),
            Candidates(boxes, candidates.scores, candidates.classes).take(kept),
        )

    def _search(self, crop: Pixels) -> int:
        size = (_EMBEDDER_SIDE, _EMBEDDER_SIDE)
        square = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BILINEAR))
        (embedding,) = self._embedder.run(None, {"images": square[None]})[0]
        return int(np.argmax(self._catalogue @ embedding)) if len(self._catalogue) else -1
