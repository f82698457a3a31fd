"""An engine that looks at itself: `python -m tests.bench.sampled OUT SECONDS HZ` runs `flows.alerting` until SIGTERM.

Once there is a file OUT a thread notes the stacks of all others, as py-spy does, for so long and so often; then they
are in OUT.done. Each counts by the CPU that its thread has taken since it was last looked at.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

from flows import alerting

ROOT = str(Path(__file__).parents[2])


def stack(frame: FrameType | None) -> str:
    """`outer (file:line);inner (file:line)`."""
    names: list[str] = []
    while frame is not None:
        code = frame.f_code
        file = code.co_filename.removeprefix(f"{ROOT}/").rpartition("/site-packages/")[2].rpartition("/python3.")[2]
        names.append(f"{code.co_qualname} ({file.partition('/')[2] if file[:1].isdigit() else file}:{frame.f_lineno})")
        frame = frame.f_back
    return ";".join(reversed(names))


def look(out: Path, seconds: float, hz: float) -> None:
    while not out.exists():
        time.sleep(0.05)
    found, before, until = defaultdict[str, float](float), dict[int, float](), time.monotonic() + seconds
    while time.monotonic() < until:
        for thread, frame in sys._current_frames().items():
            spent = time.clock_gettime(time.pthread_getcpuclockid(thread))
            if thread != threading.get_ident():
                found[stack(frame)] += spent - before.get(thread, spent)
            before[thread] = spent
        time.sleep(1 / hz)
    out.write_text("\n".join(f"{each} {seen * hz:.0f}" for each, seen in found.items()))
    out.rename(out.with_suffix(".done"))


if __name__ == "__main__":
    out, seconds, hz = sys.argv[1:]
    threading.Thread(target=look, args=(Path(out), float(seconds), float(hz)), daemon=True).start()
    sys.exit(alerting.main())
