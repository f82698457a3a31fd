"""`telltale features report`: of each feature its distribution, gaps, age and drift, who uses it and where it is from.

Values are those of the online store, of a sample of each entity. Drift is told against an earlier report (its JSON),
else between the two halves of the features as served that the lake keeps.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis

from feature_repo import keys, vocabulary
from feature_repo.declare import Value
from feature_repo.moments import instant
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.log_time import NEWEST
from flows.store import Store, connect, open_store
from onnx_models.library import Library
from serving.catalog import CatalogFeature, Cataloguer, CatalogView
from serving.complaint import Complaint
from serving.distribution import Distribution, Drift, distribution, drift
from serving.online_sample import Sampled, sampled
from serving.served_past import halves

HOUR = 3_600_000
Columns = dict[str, list[Value | None]]


class Freshness(msgspec.Struct):
    """Hours since the values were written, and the share of them older than the view's TTL."""

    median: float
    p95: float
    oldest: float
    expired: float


class FeatureReport(msgspec.Struct, kw_only=True):
    """`models`: the deployed version of each service's model. `drift`: null where there is nothing to tell it from."""

    about: CatalogFeature
    distribution: Distribution
    freshness: Freshness | None
    drift: Drift | None
    models: list[str]


class ViewReport(msgspec.Struct, kw_only=True):
    """`sampled` entities were looked at; `present` of them have the view."""

    about: CatalogView
    sampled: int
    present: int
    freshness: Freshness | None
    features: list[FeatureReport]


class Report(msgspec.Struct, kw_only=True):
    """As of `at`, the store's time. `reference`: in words, what drift is told from."""

    at: datetime
    clock: str
    reference: str
    views: list[ViewReport]


class Reference(msgspec.Struct):
    """What drift is told from: each feature's earlier distribution; `later` replaces the online values, if there."""

    says: str
    before: dict[str, Distribution] = {}
    later: Columns | None = None


def report(settings: Settings, earlier: Path | None = None, sample: int = 10_000) -> Report:
    """Raises Complaint for a reference that is no report, StoreError without a store, VocabularyError."""
    v = vocabulary.load(settings.feature_repo)
    reference = _read(earlier) if earlier else _served(settings, v)
    with closing(connect(settings)) as client:
        store = open_store(client)
        now = _now(client, store)
        found = sampled(client, v, sample)
    catalogue = Cataloguer(settings, v).catalogue
    views = [_view(settings, view, found[view.name], reference, now) for view in catalogue.views]
    at = instant(now)
    return Report(at=at, clock=store.clock, reference=reference.says, views=views)


def _now(client: redis.Redis, store: Store) -> int:
    if store.clock == "wall":
        return int(datetime.now(UTC).timestamp() * 1000)
    logs = [keys.log(p) for p in range(store.partitions)]
    newest: Any = client.eval(NEWEST, len(logs), *logs)
    return int(newest)


def _read(path: Path) -> Reference:
    try:
        earlier = msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Complaint(f"{path}: expected what `telltale features report --json` printed: {error}") from error
    before = {f"{w.about.name}:{f.about.name}": f.distribution for w in earlier.views for f in w.features}
    return Reference(f"the report of {earlier.at:%Y-%m-%d %H:%M} UTC", before)


def _served(settings: Settings, v: Vocabulary) -> Reference:
    found = halves(settings.lake, v)
    if found is None:
        return Reference("nothing: no --reference was given, and the lake holds no features as served")
    before, after = found
    says = (
        f"the features as served, {before.since:%Y-%m-%d %H:%M} to {before.until:%Y-%m-%d %H:%M} UTC, "
        f"with those up to {after.until:%Y-%m-%d %H:%M} UTC"
    )
    told = {f"{v.view}:{name}": distribution(values) for name, values in before.values.items()}
    return Reference(says, told, {f"{v.view}:{name}": values for name, values in after.values.items()})


def _view(settings: Settings, about: CatalogView, found: Sampled, reference: Reference, now: int) -> ViewReport:
    return ViewReport(
        about=about,
        sampled=found.count,
        present=sum(at is not None for at in found.written),
        freshness=_freshness([at for at in found.written if at is not None], about.ttl_days, now),
        features=[_feature(settings, about, feature, found, reference, now) for feature in about.features],
    )


def _feature(
    settings: Settings, view: CatalogView, about: CatalogFeature, found: Sampled, reference: Reference, now: int
) -> FeatureReport:
    name, values = f"{view.name}:{about.name}", found.values[about.name]
    written = [at for at, value in zip(found.written, values, strict=True) if at is not None and value is not None]
    later = values if reference.later is None else reference.later.get(name, [])
    before = reference.before.get(name)
    library = Library.of(settings)
    deployed = {service: library.current(service) for service in about.services}
    return FeatureReport(
        about=about,
        distribution=distribution(values),
        freshness=_freshness(written, view.ttl_days, now),
        drift=drift(before, later) if before else None,
        models=[f"{service}/{version}" for service, version in deployed.items() if version],
    )


def _freshness(written: list[int], ttl_days: int, now: int) -> Freshness | None:
    if not written:
        return None
    hours = np.maximum(now - np.array(written, np.int64), 0) / HOUR
    expired = float(np.mean(hours > ttl_days * 24))
    return Freshness(float(np.median(hours)), float(np.quantile(hours, 0.95)), float(hours.max()), expired)
