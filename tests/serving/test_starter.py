"""`telltale init DIR`: a domain to begin with, which runs as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from feature_repo.settings import load as settings
from feature_repo.vocabulary import load
from serving.complaint import Complaint
from serving.starter import init
from tests.live import ROOT
from tests.test_docs import README


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    init(tmp_path / "shop")
    return tmp_path / "shop"


def test_it_is_a_small_domain_without_an_error(shop: Path) -> None:
    """It declares a signal and a service with an alert, in as many lines as the README says."""
    vocabulary = load(str(shop))
    assert vocabulary.signals
    assert [service.alert for service in vocabulary.services] == ["LIKELY_TO_CANCEL"]
    lines = (shop / "domain.py").read_text().count("\n")
    assert re.search(r"writes one of (\d+) lines", README)[1] == str(lines)  # type: ignore[index]  # it is there


def test_nothing_is_overwritten(shop: Path) -> None:
    """A directory that holds something, or a file, is refused."""
    before = (shop / "domain.py").stat().st_mtime_ns
    for place in (shop, shop / "domain.py"):
        with pytest.raises(Complaint, match="new or empty"):
            init(place)
    assert (shop / "domain.py").stat().st_mtime_ns == before


def test_its_models_lie_beside_it(shop: Path) -> None:
    """Under TELLTALE_FEATURE_REPO models are looked for there, unless TELLTALE_MODELS says otherwise."""
    assert settings({"TELLTALE_FEATURE_REPO": str(shop)}).models == str(shop / "onnx_models")
    assert settings({"TELLTALE_FEATURE_REPO": str(shop), "TELLTALE_MODELS": "/m"}).models == "/m"
    assert settings({}).models == ""


def test_feast_apply_registers_it(shop: Path) -> None:
    """The real `feast apply` in its directory, into a registry of its own; then the registry as Feast lists it."""
    environ = os.environ | {"TELLTALE_FEAST_REDIS": "localhost:1", "TELLTALE_HOME": str(shop.parent / ".telltale")}
    feast = Path(sys.executable).parent / "feast"
    for words in (("apply",), ("feature-services", "list")):
        done = subprocess.run([feast, *words], cwd=shop, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "subscriber_features:cancel_page_30d" in done.stdout
    assert {path.name for path in shop.parent.rglob("*.db")} == {"registry.db"}
    assert (shop / "registry.db").exists()  # one shared with a domain beside it would lose that one's views


def test_the_command_says_where_to_go_on(tmp_path: Path) -> None:
    """One line that names the setting."""
    command = [sys.executable, "-m", "serving.command", "init", str(tmp_path / "mine")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"TELLTALE_FEATURE_REPO={tmp_path / 'mine'}" in done.stdout
    assert load(str(tmp_path / "mine")).services
