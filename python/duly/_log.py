"""Where the pool says what nobody waits for: the logger `duly`.

Keeps true: imported with the package, so that no thread of a pool imports anything when there is something to say.
"""

from __future__ import annotations

import logging

_logger = logging.getLogger("duly")
warning = _logger.warning


def critical(message: str, *args: object) -> None:
    """Logs a message with the traceback of the exception that is being handled."""
    _logger.critical(message, *args, exc_info=True)


def failure(message: str, error: BaseException) -> None:
    """Logs a failure nobody looked at, with its traceback."""
    _logger.warning("%s", message, exc_info=error)
