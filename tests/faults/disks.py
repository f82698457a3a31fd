"""Power loss, and disks that fail, are slow, or full."""

from __future__ import annotations

import errno
import random
import time

from tests.faults.site import Site
from tests.faults.trouble import SYNC_DELAY_US, SYNC_ERRNO, WRITE_ERRNO


def power_loss(site: Site, dice: random.Random) -> float:
    """All at once, and each file ends where it was last synced; then the machine comes up again."""
    assert site.trouble is not None
    time.sleep(dice.random() / 2)
    site.vanish()
    site.trouble.cut(site.settings.home)
    at = time.monotonic()
    site.begin()
    return at


def _while(site: Site, slot: int, value: int, seconds: float) -> float:
    assert site.trouble is not None
    with site.trouble.on(slot, value):
        time.sleep(seconds)
    return time.monotonic()


def cannot_write(site: Site, dice: random.Random) -> float:
    """EIO on each write to a file, of all processes."""
    return _while(site, WRITE_ERRNO, errno.EIO, 1 + dice.random())


def cannot_sync(site: Site, dice: random.Random) -> float:
    """EIO on each fsync."""
    return _while(site, SYNC_ERRNO, errno.EIO, 1 + dice.random())


def no_space(site: Site, dice: random.Random) -> float:
    """ENOSPC on each write."""
    return _while(site, WRITE_ERRNO, errno.ENOSPC, 1 + dice.random())


def slow_sync(site: Site, dice: random.Random) -> float:
    """Each fsync takes 50 to 250 ms."""
    return _while(site, SYNC_DELAY_US, dice.randint(50_000, 250_000), 2.0)
