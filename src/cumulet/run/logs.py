"""The cloud's log: one JSON line per event, to a file; secrets never print because their types do not."""

import logging
from pathlib import Path

import structlog

__all__ = ["log_to"]


def log_to(path: Path) -> None:
    """Write events to `path`, and what the libraries warn of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", buffering=1)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter('{"event": "%(message)s", "level": "%(levelname)s", "logger": "%(name)s"}'))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
