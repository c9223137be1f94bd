"""The clock, as something that is handed in. Ground floor: imports nothing of ours.

Whatever needs the time takes a `Clock`: seconds that only go forward. Servers
hand in `monotonic`, tests a fake one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

monotonic: Clock = time.monotonic
