"""libfaketime 0.9.10 refuses the call that `time.sleep` makes where it leaves the monotonic clock alone."""

from __future__ import annotations

import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
