"""Where the pool says what nobody waits for: the logger `duly`.

Keeps true: imported with the package, so that no thread of a pool imports anything when there is something to say.
"""

from __future__ import annotations

import logging

warning = logging.getLogger("duly").warning
