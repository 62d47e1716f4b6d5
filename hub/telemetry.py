"""Logs: set up here, nowhere else. JSON lines on stderr, keys from an allow-list."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from hub.privacy import redact

ALLOWED_KEYS = frozenset(
    {"event", "level", "timestamp", "process", "pid", "slot", "signal", "exit", "point", "version"}
    | {"topic", "partition", "offset", "watermark", "count", "group", "generation", "epoch"}
    | {"municipality_code", "destination", "queue", "connector", "url_host", "host", "port"}
    | {"reference", "event_id", "kind", "state", "reason", "code", "status", "attempt", "step"}
    | {"seconds", "error", "path", "name", "remedy"}
)


def _only_allowed(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop keys nobody thought about; mask what could be a BSN in the rest."""
    return {
        key: redact(value) if isinstance(value, str) else value
        for key, value in fields.items()
        if key in ALLOWED_KEYS
    }


def setup(process: str, level: str = "info") -> None:
    """Configure this process's logs. Third-party loggers speak from WARNING up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for noisy in ("faust", "aiokafka", "kafka", "httpx", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _bound["process"] = process


_bound = {"process": "hub"}


def logger() -> Any:
    """A logger: `log.info("snake_case_event", key=value)`; keys not in ALLOWED_KEYS are dropped."""
    return structlog.get_logger().bind(**_bound)
