"""`telltale up` whose processes can be told to die at exact points: `python -m tests.faults.upped [MODULE=OTHER ...]`.

`MODULE=OTHER`: in place of a child's module another one runs.
"""

from __future__ import annotations

import sys

import msgspec

from feature_repo.settings import Settings, load
from serving import up
from serving.supervisor import Child, children, module


def _mortal(child: Child, instead: dict[str, str]) -> Child:
    name = child.command[2]
    command = module(instead[name]) if name in instead else module("tests.faults.mortal", name, *child.command[3:])
    return msgspec.structs.replace(child, command=command)


def _children(settings: Settings) -> tuple[Child, ...]:
    instead = dict(word.split("=", 1) for word in sys.argv[1:])
    return tuple(_mortal(child, instead) for child in children(settings))


if __name__ == "__main__":
    vars(up)["children"] = _children
    up.up(load())
