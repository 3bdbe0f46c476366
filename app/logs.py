"""Structured logs: every line carries the ids bound to its context (`requestId`, `executionId`, `agentId`)."""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

NOISY_LOGGERS = ("httpx", "httpcore", "openai", "pymongo", "asyncio")
CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
CREDENTIALS = re.compile(
    r"(?i)(?P<kept>\bbearer\s+|\bbasic\s+|//[^/\s:@]*:(?=[^/\s@]+@)|[?&][\w.%-]+="
    r"|(?:api[-_]?key|authorization|password|secret|token|ticket)['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic)\s+)?)"
    r"[^\s'\"&,}@]+"
    r"|\bda_[\w-]{16,}|\bsk-[\w-]{16,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
)
"""Credentials in the lines of libraries: after a name, a scheme or the `=` of a query, or known by their form."""
OTHER_THAN_LINES = {code: text for code, text in CONTROL_CHARACTERS.items() if chr(code) != "\n"}


def configure_logging(log_format: Literal["console", "json"], level: str) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
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
    structlog.configure(  # directly to stderr, because loggers of the standard library take three times as long
        processors=[*shared, hide_credentials_in_traceback, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, hide_credentials],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # Other loggers belong to libraries, whose debug lines contain frames, headers and bodies.
    library_level = max(logging.INFO, logging.getLevelNamesMapping()[level.upper()])
    handler.setLevel(library_level)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(library_level)
    logging.captureWarnings(capture=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"


def hide_credentials(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask credentials that libraries quote in messages and tracebacks."""
    return {key: without_credentials(value) if isinstance(value, str) else value for key, value in event.items()}


def hide_credentials_in_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask credentials in the tracebacks of the service's own lines; only these quote text from elsewhere."""
    if "exception" in event:
        event["exception"] = without_credentials(event["exception"])
    return event


def without_credentials(text: str) -> str:
    """Return the text with its credentials masked."""
    return CREDENTIALS.sub(lambda found: f"{found['kept'] or ''}***", text)


def escape_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters that could forge a log line or color a terminal; tracebacks keep their lines."""
    return {
        key: value.translate(CONTROL_CHARACTERS if key != "exception" else OTHER_THAN_LINES)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }
