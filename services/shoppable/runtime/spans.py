"""Spans of work that is done for a call elsewhere, where no interceptor of ours stands: Triton, Qdrant."""

import contextlib
from collections.abc import Iterator

from opentelemetry import trace

_tracer = trace.get_tracer("shoppable")


@contextlib.contextmanager
def asking(peer: str, operation: str) -> Iterator[None]:
    """Make a span `peer/operation` while inside, such as `triton/embedder`. Its failure shows, texts of errors do not.

    Outside of a call nothing is made: readiness checks ask every few seconds, and would fill the traces.
    """
    if not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with _tracer.start_as_current_span(
        f"{peer}/{operation}",
        kind=trace.SpanKind.CLIENT,
        attributes={"peer.service": peer},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
