"""`telltale up` whose output goes where nothing can be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from serving.supervisor import environment
from tests.running_up import TELLTALE, Up, door_of, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="has no /dev/full, and finds the processes in /proc")


def test_a_full_disk_under_its_output_ends_nothing(tmp_path: Path, free_port: int) -> None:
    """It starts, starts again what dies, and ends in order."""
    settings = Settings(home=tmp_path, port=free_port, partitions=2)
    out = Path("/dev/full").open("ab")  # noqa: SIM115  # it ends with the Telltale
    process = subprocess.Popen([*TELLTALE, "up"], env=environment(settings), stdout=out, stderr=out)
    with closing(Up(settings, process, out)) as up, closing(door_of(up)) as door:
        (api,) = up.pids("serving.app")
        os.kill(api, signal.SIGKILL)
        eventually(door, "/readyz")
        assert up.pids("serving.app") != [api]
        up.end()
        assert process.returncode == 0
