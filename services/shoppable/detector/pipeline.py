"""From a picture to its detections: read and letterbox it, ask all models at once, suppress, fuse."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from shoppable.detector.concurrency import all_of, in_order
from shoppable.detector.deriving import with_apparel
from shoppable.detector.detections import Candidates, Detection, DetectionOptions
from shoppable.detector.fusion import Derive, Findings, fuse
from shoppable.detector.letterbox import Letterbox, Pixels
from shoppable.detector.ports import DetectionModel, LoadedModel
from shoppable.detector.suppression import suppress
from shoppable.detector.taxonomy import Taxonomy
from shoppable.detector.tensors import Array, to_tensor
from shoppable.runtime import metrics
from shoppable.runtime.errors import InvalidRequestError, NotFoundError, ServiceError, UnavailableError, Violation

# Of a caller's unknown names, so that the status stays within what a trailer holds.
_SHOWN_NAMES, _SHOWN_CHARACTERS = 10, 100
# Decodes a picture. Blocking; raises InvalidRequestError with what is wrong with it.
Source = Callable[[], Pixels]
# Where a picture lies in a model's input, and that input.
Prepared = tuple[Letterbox, Array]
# What came out for one picture of a stream.
Outcome = tuple[Detection, ...] | ServiceError


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to ask, and for what."""

    models: Sequence[DetectionModel]
    options: DetectionOptions


class DetectionPipeline:
    """The use case. One for the whole service, since it bounds the work of all calls together."""

    def __init__(
        self,
        models: Sequence[DetectionModel],
        taxonomy: Taxonomy,
        *,
        executor: Executor,
        pictures_per_call: int,
        pictures_in_work: int,
        fusion_iou: float,
    ) -> None:
        """Take the models and how much may be in work at a time, for one call and for all.

        Args:
            models: In the order in which they win ties.
            taxonomy: Of all of them.
            executor: Runs decoding and resizing.
            pictures_per_call: That one call has in work at a time.
            pictures_in_work: That all calls together have in work at a time.
            fusion_iou: See `fusion.fuse`.
        """
        self.models = {model.spec.name: model for model in models}
        self._taxonomy = taxonomy
        self._executor = executor
        self._pictures_per_call = pictures_per_call
        self._in_work = asyncio.Semaphore(pictures_in_work)
        self._fusion_iou = fusion_iou

    def model(self, name: str) -> DetectionModel:
        """Return a model by its name.

        Raises:
            NotFoundError: There is none.
        """
        self._check_known([name])
        return self.models[name]

    async def plan(self, options: DetectionOptions) -> Plan:
        """Choose the models that a caller named, or all, in the versions that it named.

        Raises:
            NotFoundError: A model (the text names the first ten) or a version does not exist.
            UnavailableError: A version is named, and its model cannot be asked.
            DeadlineExceededError: The caller's time is over.
        """
        self._check_known((*options.models, *options.model_versions))
        names = options.models or tuple(self.models)

        async def at(model: DetectionModel) -> DetectionModel:
            version = options.model_versions.get(model.spec.name)
            return model if version is None else await model.at(version)

        # Each once, and in our order, whatever the caller's.
        return Plan(await all_of(*(at(model) for name, model in self.models.items() if name in names)), options)

    def _check_known(self, names: Sequence[str]) -> None:
        unknown = [name[:_SHOWN_CHARACTERS] for name in dict.fromkeys(names) if name not in self.models]
        if unknown:
            said = ", ".join(map(repr, unknown[:_SHOWN_NAMES]))
            said += f" and {len(unknown) - _SHOWN_NAMES} more" if len(unknown) > _SHOWN_NAMES else ""
            message = f"this detector has no model {said}; it has {', '.join(sorted(self.models))}"
            raise NotFoundError("detection model", unknown[0], message, reason="UNKNOWN_MODEL")

    async def detect(self, source: Source, plan: Plan) -> tuple[Detection, ...]:
        """Return the detections of one picture.

        Raises:
            InvalidRequestError: The picture cannot be read.
            UnavailableError: A model cannot run now.
            DeadlineExceededError: The caller's time is over.
        """
        outcome = "failed"
        try:
            async with self._in_work:
                loaded = await all_of(*(model.load() for model in plan.models))
                inputs = self._prepare(source, plan.models, loaded)
                findings = await all_of(
                    *(
                        self._find(model, prepared, plan.options)
                        for model, prepared in zip(plan.models, inputs, strict=True)
                    )
                )
            outcome = "ok"
            derive = self._deriving(inputs[0].result()[0]) if plan.options.derive_apparel_regions else None
            return fuse(findings, plan.options, iou=self._fusion_iou, derive=derive)
        except InvalidRequestError:
            outcome = "refused"
            raise
        finally:
            metrics.PICTURES_SEARCHED.labels(outcome).inc()

    async def detect_batch(self, sources: Sequence[Source], plan: Plan) -> list[tuple[Detection, ...]]:
        """Return the detections of each picture, in order.

        Raises:
            InvalidRequestError: Pictures cannot be read: the violations of all of them.
            UnavailableError: A model cannot run now.
            DeadlineExceededError: The caller's time is over.
        """
        refused = False

        async def work(source: Source) -> tuple[Detection, ...] | InvalidRequestError:
            nonlocal refused
            try:
                # Once the call is lost, the other pictures are only read, to say what is wrong with all of them.
                return await (self._only_read(source) if refused else self.detect(source, plan))
            except InvalidRequestError as error:
                refused = True
                return error

        results: list[tuple[Detection, ...]] = []
        violations: list[Violation] = []
        async with contextlib.aclosing(in_order(_each(sources), work, limit=self._pictures_per_call)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, InvalidRequestError):
                    violations.extend(outcome.violations)
                else:
                    results.append(outcome)
        if violations:
            raise InvalidRequestError(violations)
        return results

    async def read_all(self, sources: Sequence[Source]) -> list[Violation]:
        """Read pictures and return what is wrong with them: for a request that is refused for something else."""
        found: list[Violation] = []
        for source in sources:
            try:
                await self._only_read(source)
            except InvalidRequestError as error:
                found.extend(error.violations)
        return found

    def detect_stream(
        self, frames: AsyncIterator[tuple[int, Source]], plan: Plan
    ) -> AsyncGenerator[tuple[int, Outcome], None]:
        """Yield each frame's number and detections, in the order of the frames, or why the frame has none.

        Frames are taken only as results are taken; closing the generator cancels all that is in work.
        """

        async def work(frame: tuple[int, Source]) -> tuple[int, Outcome]:
            number, source = frame
            try:
                return number, await self.detect(source, plan)
            except ServiceError as error:
                return number, error

        return in_order(frames, work, limit=self._pictures_per_call)

    async def check(self) -> None:
        """Return if every model can infer.

        Raises:
            UnavailableError: Some cannot; the text says which, and why.
        """
        checks = [asyncio.create_task(model.check()) for model in self.models.values()]
        try:
            answers = await asyncio.gather(*checks, return_exceptions=True)
        finally:
            for check in checks:
                check.cancel()
        failures = [str(answer) for answer in answers if isinstance(answer, BaseException)]
        if failures:
            raise UnavailableError("; ".join(failures), reason="INFERENCE_UNAVAILABLE")

    def _prepare(
        self, source: Source, models: Sequence[DetectionModel], loaded: Sequence[LoadedModel]
    ) -> list[asyncio.Future[Prepared]]:
        """Start a thread that reads a picture and draws it into each model's input; the largest is there first.

        Each model can be asked as soon as its own input is there. The picture's pixels live only in the thread, so no
        more pictures are held than there are threads.
        """
        loop = asyncio.get_running_loop()
        inputs: list[asyncio.Future[Prepared]] = [loop.create_future() for _ in loaded]
        forms = [model.spec.input for model in models]
        areas = [model.input_width * model.input_height for model in loaded]

        def hand_over(index: int, prepared: Prepared) -> None:
            if not inputs[index].done():  # else its caller has gone
                inputs[index].set_result(prepared)

        def draw() -> None:
            pixels = source()
            height, width = pixels.shape[:2]
            drawn: dict[Letterbox, Pixels] = {}
            for index in sorted(range(len(loaded)), key=areas.__getitem__, reverse=True):
                size, form = loaded[index], forms[index]
                letterbox = Letterbox.fit(
                    width, height, input_width=size.input_width, input_height=size.input_height, form=form
                )
                if letterbox not in drawn:
                    drawn[letterbox] = letterbox.draw(pixels)
                loop.call_soon_threadsafe(hand_over, index, (letterbox, to_tensor(drawn[letterbox], form)))

        def ended(thread: asyncio.Future[None]) -> None:
            metrics.PICTURE_PREPARE_SECONDS.observe(time.perf_counter() - started)
            error = None if thread.cancelled() else thread.exception()
            for one in inputs:
                if error is not None and not one.done():
                    one.set_exception(error)

        started = time.perf_counter()
        loop.run_in_executor(self._executor, draw).add_done_callback(ended)
        return inputs

    def _deriving(self, letterbox: Letterbox) -> Derive:
        """Return what adds the apparel regions of a picture's people."""
        return functools.partial(
            with_apparel,
            categories=self._taxonomy.derived,
            width=letterbox.picture_width,
            height=letterbox.picture_height,
        )

    async def _only_read(self, source: Source) -> tuple[Detection, ...]:
        async with self._in_work:
            await asyncio.get_running_loop().run_in_executor(self._executor, source)
        return ()

    async def _find(
        self, model: DetectionModel, prepared: asyncio.Future[Prepared], options: DetectionOptions
    ) -> Findings:
        """Ask one model as soon as its input is there, and return what it found as shares of the picture."""
        letterbox, tensor = await prepared
        candidates = await model.infer(tensor)
        lowest = model.spec.min_score if options.min_score is None else options.min_score
        candidates = candidates.take(candidates.scores >= lowest)
        if model.spec.nms:
            candidates = candidates.take(
                suppress(candidates.boxes, candidates.scores, candidates.classes, iou=model.spec.nms_iou)
            )
        boxes, kept = letterbox.clip(letterbox.to_picture(candidates.boxes))
        found = Candidates(boxes, candidates.scores, candidates.classes).take(kept)
        return Findings(model.spec.name, self._taxonomy.sorts(model.spec.name), found, model.spec.min_score)


async def _each(sources: Sequence[Source]) -> AsyncIterator[Source]:
    for source in sources:
        yield source
