"""A model's own labels over a past: rows at the instants at which the stream scores, and what came after."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.declare import Service
from feature_repo.finish import DAY
from feature_repo.vocabulary import Vocabulary
from training.backfill import Stream, key
from training.dataset import Span, followed, instants, preceded, these_codes
from training.labels import AS_OF, USER, Labels
from training.model import Training
from training.past import NotReadable, Past
from training.people import Array
from training.training_set import Wanted
from training.validate import NotTrainable

ROWS = 150_000  # drawn, where there are more
TICKS = 6_000_000  # days of people that are looked at, at most: of more people some are drawn
FILLING = 90  # days at the start in which windows fill; a fifth of a shorter history


def asked(of: Past, wanted: Wanted, training: Training, service: Service, rows: int = ROWS) -> Labels:
    """Labels as a file would have them, in the column that the model's label names.

    Raises NotReadable where the label says no events, NotTrainable where the history is too short for its horizon.
    """
    vocabulary, label = wanted.vocabulary, training.label
    events = label.events or ((service.outcome,) if service.outcome else ())
    if training.entity != vocabulary.entity or not events:
        raise NotReadable(
            f"train {service.name}: expected --labels FILE: the lake does not say what became of a {training.entity}"
        )
    span = _span(of.stream, label.horizon_days, service.name)
    person, at = _instants(of, wanted, span, label.at, training.seed)
    codes = these_codes(vocabulary, events)
    if label.among_days:
        there = preceded(of.stream, codes, person, at, label.among_days)
        person, at = person[there], at[there]
    drawn = np.sort(np.random.default_rng(training.seed).permutation(len(at))[:rows])
    person, at = person[drawn], at[drawn]
    came = followed(of.stream, codes, person, at, label.horizon_days)
    return _labels(of, wanted, person, at, came != label.absent, label.column)


def _span(of: Stream, horizon_days: int, name: str) -> Span:
    days = (of.end - of.start) // DAY
    since, until = min(FILLING, days // 5), days - horizon_days
    if until <= since:
        raise NotTrainable(
            name, [f"expected a history of more than {horizon_days + 1} days, the label's horizon, got {days} days"]
        )
    return Span(since, until)


def _instants(of: Past, wanted: Wanted, span: Span, at_events: tuple[str, ...], seed: int) -> tuple[Array, Array]:
    """(person, at) of the organisation's people, from when they are known on; anonymous ones are left out."""
    stream, ours = of.stream, _ours(of, wanted)
    if at_events:
        person, at = _at_these(wanted.vocabulary, stream, span, at_events)
    else:
        some = np.random.default_rng(seed).permutation(np.flatnonzero(ours))[: TICKS // (span.until - span.since)]
        person, at = instants(stream, span, np.sort(some))
    first = np.full(stream.people, np.iinfo(np.int64).max)
    for who, when in ((stream.person, stream.now), (stream.trait_person, stream.trait_now)):
        np.minimum.at(first, who, when)
    kept = ours[person] & (at >= first[person])
    return person[kept], at[kept]


def _at_these(vocabulary: Vocabulary, of: Stream, span: Span, events: tuple[str, ...]) -> tuple[Array, Array]:
    low, high = of.start + span.since * DAY, of.start + span.until * DAY
    rows = np.isin(of.code, these_codes(vocabulary, events)) & (of.now >= low) & (of.now < high)
    distinct = np.unique(key(of.person[rows], of.now[rows]))
    return distinct >> 42, distinct & ((1 << 42) - 1)


def _ours(of: Past, wanted: Wanted) -> Array:
    names = of.names
    prefix = f"{wanted.organisation}/" if wanted.history.is_dir() else ""
    known = pc.and_(pc.starts_with(names, prefix), pc.invert(pc.starts_with(names, f"{prefix}anon:")))
    return np.asarray(known.to_numpy(zero_copy_only=False), bool)


def _labels(of: Past, wanted: Wanted, person: Array, at: Array, label: Array, column: str) -> Labels:
    users = of.names.take(pa.array(person))
    if wanted.history.is_dir():
        users = pc.utf8_slice_codeunits(users, len(wanted.organisation) + 1)
    as_of = pa.array(at * 1000, pa.timestamp("us", tz="UTC"))
    return Labels(pa.table({USER: users, AS_OF: as_of, column: pa.array(label.astype(np.int8))}))
