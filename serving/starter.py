"""`telltale init DIR`: a working domain for another business, to be changed into one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import feature_repo
from serving.complaint import Complaint

ROOM = Path(feature_repo.__path__[0])
FILES = ("domain.py", "feast_objects.py", "README.md")
SHARED = "registry: ../.telltale/registry.db"  # there, directories side by side would take each other's views away


def init(directory: Path) -> None:
    """Raises Complaint where there is something already."""
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise Complaint(f"{directory}: expected a directory that is new or empty")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(ROOM / "starter" / name, directory / name)
        told = (ROOM / "feature_store.yaml").read_text()
        (directory / "feature_store.yaml").write_text(told.replace(SHARED, "registry: registry.db"))
    except OSError as error:
        raise Complaint(f"{error.filename}: {error.strerror}") from None
    print(f"{directory}: a domain of your own begins in domain.py; TELLTALE_FEATURE_REPO={directory} runs it")
