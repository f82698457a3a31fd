"""An alert as the API shows it, each feature by its name; and the steps that it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from feature_repo.vocabulary import Vocabulary
from flows.alert import Alert, Opened, Status
from flows.alert_status import Step


class ShownAlert(Opened, frozen=True, kw_only=True):
    """A score that opened an episode. Times are milliseconds since 1970.

    `features`: name -> value as scored. Where the vocabulary's list for the model is another one by now, places
    in the list ("0", "1", ...) stand for the names. `read`: whether who is named in `by` has read it; null: nobody is.
    """

    read: bool | None = None
    features: dict[str, float]


class ShownStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of an alert: from where to where (`status`), when (`status_at`, ms since 1970), by whom and why."""

    id: str
    user: str
    type: str
    from_status: Status
    status: Status
    status_at: int
    by: str
    why: str | None


Show = Callable[[Alert], ShownAlert]


def shower(vocabulary: Vocabulary) -> Show:
    """Names features by the lists of the vocabulary's services."""
    services = {service.name: service.features for service in vocabulary.services}

    def show(alert: Alert) -> ShownAlert:
        named = _named(services.get(alert.model, ()), alert.features)
        return ShownAlert(**(msgspec.structs.asdict(alert) | {"features": named}))

    return show


def _named(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    if len(names) != len(values):
        names = [str(place) for place in range(len(values))]
    return dict(zip(names, values, strict=True))


def shown_step(step: Step) -> ShownStep:
    return ShownStep(
        id=step.alert_id,
        user=step.user,
        type=step.type,
        from_status=step.from_status,
        status=step.to_status,
        status_at=step.at,
        by=step.who,
        why=step.why,
    )
