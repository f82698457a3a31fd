"""Stacks of calls as a flame picture: SVG without script, whose frames tell their share when pointed at.

Outermost calls stand at the top. A frame is as wide as its share of all samples; those below `LEAST` are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

import msgspec

WIDTH, ROW = 1200, 18
LEAST = 0.001  # of all samples
LETTER = 6.3  # pixels
NATIVE = "["  # begins the name of a frame that is no Python: [library] function
ROOMS = ("flows/", "feature_repo/", "onnx_models/")
STYLE = """
.flame { width: 100%; height: auto; margin-top: .5rem; border: 1px solid var(--line); border-radius: 6px }
.flame text { font: 11px ui-monospace, monospace; fill: var(--on-frame); pointer-events: none }
.flame rect { stroke: var(--back); stroke-width: .7 } .flame g:hover rect { stroke: var(--ink); stroke-width: 1.2 }
.flame .room rect, .key .room { fill: var(--room); background: var(--room) }
.flame .library rect, .key .library { fill: var(--library); background: var(--library) }
.flame .native rect, .key .native { fill: var(--native); background: var(--native) }
.key { font-size: 13px; color: var(--soft) } .key span { margin-right: 1.2rem }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem;
 vertical-align: -1px }
"""
KEY = (
    "<p class=key><span><i class=room></i>the engine's own code</span>"
    "<span><i class=library></i>Python that it uses</span><span><i class=native></i>compiled code</span></p>"
)


class Frame(msgspec.Struct):
    """A call, how often it was seen, and what it called."""

    name: str
    seen: int = 0
    calls: dict[str, Frame] = {}


def tree(stacks: Mapping[str, int]) -> Frame:
    """All stacks under one root."""
    root = Frame("all")
    for stack, seen in stacks.items():
        root.seen += seen
        frame = root
        for name in stack.split(";"):
            frame = frame.calls.setdefault(name, Frame(name))
            frame.seen += seen
    return root


def drawn(stacks: Mapping[str, int]) -> str:
    root = tree(stacks)
    if not root.seen:
        return "<p class=soft>Nothing was seen.</p>"
    frames = list(_placed(root, root.seen, 0.0, 0))
    height = ROW * (1 + max(depth for _, _, depth in frames))
    parts = "".join(_frame(frame, x, depth, root.seen) for frame, x, depth in frames)
    says = f"where {root.seen} samples of the engine were"
    return f'{KEY}<svg class="flame" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{says}">{parts}</svg>'


def _placed(frame: Frame, whole: int, x: float, depth: int) -> Iterator[tuple[Frame, float, int]]:
    """(frame, pixels from the left, depth), the widest of each row first."""
    yield frame, x, depth
    for inner in sorted(frame.calls.values(), key=lambda each: (-each.seen, each.name)):
        if inner.seen >= LEAST * whole:
            yield from _placed(inner, whole, x, depth + 1)
        x += WIDTH * inner.seen / whole


def _frame(frame: Frame, x: float, depth: int, whole: int) -> str:
    width, y = WIDTH * frame.seen / whole, depth * ROW
    says = f"<title>{escape(frame.name)}: {frame.seen / whole:.2%}, {frame.seen:,} samples</title>"
    shape = f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW}" rx="2"/>'
    fits = int((width - 6) / LETTER)
    name = short(frame.name)
    shown = name if len(name) <= fits else name[: fits - 1] + "…"
    text = f'<text x="{x + 3:.2f}" y="{y + 13}">{escape(shown)}</text>' if fits > 2 else ""
    return f'<g class="{kind(frame.name)}">{says}{shape}{text}</g>'


def kind(name: str) -> str:
    if name.startswith(NATIVE):
        return "native"
    return "room" if name.startswith(ROOMS) else "library"


def short(name: str) -> str:
    """Without the file, which the title tells."""
    return name if name.startswith(NATIVE) else name.rpartition(" ")[2]
