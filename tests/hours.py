"""All tests, or those that are named, with the machine's clock at eight hours of other days: `make test-hours`.

Each run adds an offset to the clock of every process of the tests, by libfaketime; what runs on monotonic time does not
notice. Browsers stay as they are: Chromium hangs on it, and its pages get the tests' own time (tests/e2e/dashboard.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

MOMENTS = {
    "2026-11-29 02:50:00": "UTC",  # the hour at which `make test` failed once
    "2026-12-31 23:59:30": "UTC",  # a year ends while the tests run
    "2027-03-01 00:00:00": "UTC",
    "2027-02-28 18:29:30": "Asia/Kolkata",  # a month ends there
    "2027-03-14 06:59:30": "America/New_York",  # an hour that does not exist
    "2027-11-07 05:59:30": "America/New_York",  # an hour that comes twice
    "2028-02-29 12:00:00": "UTC",
    "2027-04-03 13:59:30": "Pacific/Auckland",  # an hour that comes twice, on the other half of the earth
}


def main(tests: list[str]) -> int:
    libraries = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        print("libfaketime is needed: apt-get install libfaketime", file=sys.stderr)
        return 1
    failed = [moment for moment in MOMENTS if not passes(moment, libraries[0], tests)]
    print()
    for moment in MOMENTS:
        print(f"{moment} UTC: {'failed' if moment in failed else 'passed'}")
    return 1 if failed else 0


def passes(moment: str, library: str, tests: list[str]) -> bool:
    print(f"\n{moment} UTC, in the time zone {MOMENTS[moment]}", flush=True)
    ahead_s = round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() - time.time())
    environ = {
        "TZ": MOMENTS[moment],
        "LD_PRELOAD": library,
        "FAKETIME": f"{ahead_s:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # its name until 0.9.8
        # Else waits with a time limit return at once, and threads that wait for the interpreter spin.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "PYTHONPATH": str(Path(__file__).parent / "faketime"),
    }
    workers = os.environ.get("HOURS_WORKERS", "auto")
    pytest = [sys.executable, *["-m", "pytest", "-q", "-n"], workers, *tests]
    return subprocess.run(pytest, env=os.environ | environ).returncode == 0  # noqa: S603 - our own program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
