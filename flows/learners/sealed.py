"""River's own objects in files of this home: written and read by the learners alone, never taken from elsewhere."""

from __future__ import annotations

import contextlib
import hmac
import os
import pickle
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any

from feature_repo import settings
from onnx_models.files import replace

KEY = ".key"
_TAG = 32


class Sealed:
    """A folder of pickles, each behind a keyed hash of name and content; the key lies beside them, for us alone.

    Whoever can write the key could run code as us anyhow. A file that was changed, or is another's, is not unpickled.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder or settings.load().home / "learners"

    def write(self, name: str, thing: Any) -> None:
        """The file whole, on disk."""
        content = pickle.dumps(thing, protocol=5)
        key = self._key()
        replace(self.folder / name, self._tag(key, name, content) + content)

    def read(self, name: str) -> Any:
        """Raises ValueError for a file that is not there, or not as we wrote it."""
        try:
            whole = (self.folder / name).read_bytes()
        except OSError as error:
            raise ValueError(f"expected {self.folder / name}: {error}") from error
        tag, content = whole[:_TAG], whole[_TAG:]
        if not hmac.compare_digest(tag, self._tag(self._key(), name, content)):
            raise ValueError(f"expected {self.folder / name} as it was written here, got something else")
        return pickle.loads(content)  # noqa: S301  # ours, by the tag

    def drop(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def _tag(self, key: bytes, name: str, content: bytes) -> bytes:
        return hmac.digest(key, name.encode() + b"\0" + content, sha256)

    def _key(self) -> bytes:
        """Made when it is asked for first; another process may be as quick."""
        file = self.folder / KEY
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = self.folder / f"{KEY}.{secrets.token_hex(8)}"
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(secrets.token_bytes(32))
                out.flush()
                os.fsync(out.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(new, file)
            new.unlink()
        return file.read_bytes()
