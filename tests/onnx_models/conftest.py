"""A small library of models for the tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_models.library import Library
from tests.flows.made_models import logistic
from tests.onnx_models.versions import ALL, SERVICE, A


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where proofs are remembered: every test makes the same four versions, so one try each is enough."""
    return tmp_path_factory.mktemp("proved")


@pytest.fixture
def library(tmp_path: Path, proved: Path) -> Library:
    """A home with versions B, C and D of a model; A ships."""
    home, shipped = tmp_path / "home", tmp_path / "shipped"
    for i, version in enumerate(ALL):
        logistic(shipped if version == A else home, SERVICE, SERVICE.features[0], i + 1.0, 2.0, 0.9, version=version)
    (home / ".proved").symlink_to(proved)
    return Library(home, shipped)
