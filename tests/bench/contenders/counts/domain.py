"""The workload of all contenders (lines.py) as a domain of its own: 12 event types, 24 trailing counts, one model."""

from feature_repo import declare as d
from tests.bench.contenders.lines import TYPES

VIEW = "counts"
EVENTS = tuple(d.EventType(name=name, segment=(name,), description=name) for name in TYPES)
FEATURES = tuple(
    d.Feature(name=f"{n}_{h}h", unit="events", window=f"{h} h", default=0.0, description=n, of=d.Count(n, hours=h))
    for h in (1, 24)
    for n in TYPES
)
SERVICES = (
    d.Service(
        name="of_counts",
        features=tuple(feature.name for feature in FEATURES),
        description="what every contender scores",
        alert="OF_COUNTS",
        advice="Nothing.",
    ),
)
