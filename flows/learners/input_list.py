"""Which list of inputs a learner holds to, while labels of two versions come."""

from __future__ import annotations

import msgspec

from flows.learners.example import Example

BACK = 500  # outcomes of an earlier list, each scored after all of the one held: the model went back to it


class InputList(msgspec.Struct):
    """That of the newest version met: labels of the one before come for a horizon yet, and do not bring it back.

    `newest`: of all versions met; `latest`: when the list was last scored, ms since 1970; `back`: outcomes of others
    that were scored later, with none of it in between; `held`: outcomes of it, `others`: of other lists, ever.
    """

    names: tuple[str, ...] = ()
    newest: str = ""
    latest: int = 0
    back: int = 0
    held: int = 0
    others: int = 0

    def holds(self, example: Example) -> bool:
        """Whether an outcome is of the list, which becomes that of a version newer than all before."""
        if example.names != self.names and not self._gives_way(example):
            self.others += 1
            return False
        if example.names != self.names or example.at > self.latest:
            self.names, self.latest, self.back = example.names, example.at, 0
        self.held += 1
        self.newest = max(self.newest, example.version)
        return True

    def _gives_way(self, example: Example) -> bool:
        if not self.names or example.version > self.newest:
            return True
        self.back += example.at > self.latest
        return self.back >= BACK
