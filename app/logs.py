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
"""What credentials look like in the lines of libraries: after a name, a scheme or a query's `=`, or by their form."""
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
    # The loggers below the root are those of libraries, whose debug lines hold frames, headers and bodies.
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
    """Libraries quote what they are given, in messages and tracebacks: credentials do not go into the log."""
    return {key: without_credentials(value) if isinstance(value, str) else value for key, value in event.items()}


def hide_credentials_in_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of our own lines, tracebacks alone quote what others say."""
    if "exception" in event:
        event["exception"] = without_credentials(event["exception"])
    return event


def without_credentials(text: str) -> str:
    """A text with asterisks in the place of credentials."""
    return CREDENTIALS.sub(lambda found: f"{found['kept'] or ''}***", text)


def escape_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Texts of users and models cannot forge a log line or colour a terminal; a traceback keeps its lines."""
    return {
        key: value.translate(CONTROL_CHARACTERS if key != "exception" else OTHER_THAN_LINES)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }
