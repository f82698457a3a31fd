"""The tree of an earlier commit, out of the checkout's own history."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from tests.faults.found import Lacking
from tests.live import ROOT

COMMIT = "b0dc4bd921d30da04c3b0b9dd89851e9f15560b7"  # the last before there was a fault laboratory


def earlier(place: Path) -> Path:
    """Where its tree lies now: `place`/earlier. Raises Lacking where the history does not reach so far."""
    tree = place / "earlier"
    git = ["git", "-C", str(ROOT), "archive", COMMIT]
    try:
        done = subprocess.run(git, capture_output=True, check=False)
    except OSError as error:
        raise Lacking(f"git, for the tree of {COMMIT[:7]}: {error}") from error
    if done.returncode:
        raise Lacking(f"the history down to {COMMIT[:7]}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        tar.extractall(tree, filter="data")
    return tree
