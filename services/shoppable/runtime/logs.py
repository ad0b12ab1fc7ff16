"""Structured logs on stderr: one JSON object a line, or colours for a person. Standard logging flows into the same."""

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace

from shoppable.runtime.settings import ServerSettings

# What libraries log as an error, with a traceback, whenever a caller leaves while an answer is being written to it. The
# call's own record says that it was cancelled.
_A_CALLER_LEFT = {
    "grpc._cython.cygrpc": "ExecuteBatchError raised in core by servicer method",
    "opentelemetry.context": "Failed to detach context",
}


class _Unless(logging.Filter):
    """Lets records through unless they begin with a text."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._beginning)


def configure_logs(settings: ServerSettings) -> None:
    """Set up structlog and standard logging for this process. Every record has service, request and trace."""

    def add_service(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("app", f"shoppable-{settings.service}")
        return event

    def add_trace(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event.setdefault("trace_id", trace.format_trace_id(context.trace_id))
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        add_trace,
    ]
    human = settings.log_format == "human"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if human
        else structlog.processors.JSONRenderer()
    )
    # The console renderer prints tracebacks itself; in JSON they become a field.
    tracebacks: list[structlog.typing.Processor] = [] if human else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tracebacks, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, text in _A_CALLER_LEFT.items():
        logging.getLogger(name).addFilter(_Unless(text))
