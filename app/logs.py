"""Structured logs: every line carries the ids bound to its context (`requestId`, `executionId`, `agentId`)."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

NOISY_LOGGERS = ("httpx", "httpcore", "openai", "pymongo", "asyncio")
CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
OTHER_THAN_LINES = {code: text for code, text in CONTROL_CHARACTERS.items() if chr(code) != "\n"}


def configure_logging(log_format: Literal["console", "json"], level: str) -> None:
    """Send structlog and the standard library's loggers to stderr in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
        shared.append(escape_control_characters)
    structlog.configure(  # straight to stderr: the standard library's loggers take three times as long for a line
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"


def escape_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Texts of users and models cannot forge a log line or colour a terminal; a traceback keeps its lines."""
    return {
        key: value.translate(CONTROL_CHARACTERS if key != "exception" else OTHER_THAN_LINES)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }
