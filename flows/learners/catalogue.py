"""Every online learner: add yours here."""

from __future__ import annotations

from flows.learners.example import Kind

KINDS: tuple[Kind, ...] = ()
