"""From features to scores to alerts, for everybody who changed."""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.declare import Array, Service
from flows import episodes
from flows.alert import MIN_CONFIDENCE, withheld
from flows.alert import encode as encode_alert
from flows.people import People
from flows.plan import Plan
from flows.progress import Progress
from flows.recalibrating import Recalibrated, Recalibrating
from flows.windows import Signals
from onnx_models.session import Model


class Evaluated(msgspec.Struct):
    """People about to be written: table rows sorted by partition, features float64 (n, features), NaN = null.

    `models` gave the `scores`: (raw, calibrated) float32 (n,) by model, NaN where nobody was asked.
    `recalibrated`: by which online calibrations; None: by none. `alerts`: encoded, by partition.
    """

    progress: list[Progress]
    rows: Array
    features: Array
    models: dict[str, Model] = {}
    scores: dict[str, tuple[Array, Array]] = {}
    recalibrated: Recalibrated | None = None
    alerts: dict[int, list[bytes]] = {}


class Scorer:
    """The models of one vocabulary, and when their scores become alerts."""

    def __init__(
        self, plan: Plan, models: dict[str, Model], people: People, cooldown_days: int, withheld: float = 0.0
    ) -> None:
        """`withheld`: which share of alerts is told to nobody."""
        self.models = models  # may be replaced between two batches, never changed
        self._plan, self._people, self._cooldown_days, self._withheld = plan, people, cooldown_days, withheld
        self._recalibrating = Recalibrating(people)
        index = plan.vocabulary.feature_index
        self._inputs = {s.name: [index[f] for f in s.features] for s in plan.alerts}
        self._defaults = np.array([feature.default for feature in plan.vocabulary.features])
        self._windows = {s.name: s.window for s in plan.vocabulary.signals}

    def score(self, evaluated: Evaluated) -> None:
        """Every model's scores; people whose history is being imported, or who are somebody else, are not scored."""
        people, rows = self._people, evaluated.rows
        loud = np.flatnonzero(~(people.muted[rows] | people.relay[rows]))
        matrix = self._known(evaluated.features[loud]).astype(np.float32)
        evaluated.models = self.models
        for _, service in self._scored(evaluated):
            name, inputs = service.name, self._inputs[service.name]
            scores = np.full((2, len(rows)), np.nan, np.float32)
            if len(loud):
                whole = inputs == list(range(matrix.shape[1]))
                scores[:, loud] = evaluated.models[name].scores(matrix if whole else matrix[:, inputs])
            evaluated.scores[name] = (scores[0], scores[1])
        scored = [evaluated.models[name] for name in evaluated.scores]
        evaluated.recalibrated = self._recalibrating.apply(scored, rows, evaluated.scores)

    def _scored(self, evaluated: Evaluated) -> list[tuple[int, Service]]:
        """The alert services that have a model, with their numbers."""
        return [(i, s) for i, s in enumerate(self._plan.alerts) if s.name in evaluated.models]

    def _known(self, features: Array) -> Array:
        """What a model is given: defaults for features that are null."""
        nulls = np.isnan(features)
        return np.where(nulls, self._defaults, features) if nulls.any() else features

    def decide(self, evaluated: Evaluated) -> None:
        """Open and close episodes; an opened one is an alert."""
        for i, service in self._scored(evaluated):
            fired = self._fired(evaluated, i, service)
            if len(fired):
                self._open(evaluated, fired, i, service)

    def _fired(self, evaluated: Evaluated, i: int, service: Service) -> Array:
        """Which of the people reach the threshold of a model in a new episode; ends episodes that are over."""
        values, rows = self._people.table.values, evaluated.rows
        opened, open_ = self.slots(i)
        score, threshold = evaluated.scores[service.name][1], evaluated.models[service.name].threshold
        values[rows[episodes.closes(score, threshold, values[rows, open_])], open_] = 0
        columns = (values[rows, opened], values[rows, open_], values[rows, 0])
        return np.flatnonzero(episodes.fires(score, threshold, *columns, self._cooldown_days))

    def _open(self, evaluated: Evaluated, fired: Array, i: int, service: Service) -> None:
        signals = self._people.table.signals(evaluated.rows[fired])
        sure = episodes.confidence(signals)
        for k in np.flatnonzero(sure >= MIN_CONFIDENCE).tolist():
            at = int(fired[k])
            row = int(evaluated.rows[at])
            alert = self._alert(evaluated, at, service, signals, k, float(sure[k]))
            opened, open_ = self.slots(i)
            self._people.table.values[row, opened] = self._people.table.values[row, 0]
            self._people.table.values[row, open_] = 1
            evaluated.alerts.setdefault(int(self._people.partition[row]), []).append(alert)

    def _alert(self, evaluated: Evaluated, at: int, service: Service, signals: Signals, k: int, sure: float) -> bytes:
        row, plan = int(evaluated.rows[at]), self._plan
        values = self._people.table.values[row]
        now = int(values[0])
        latest = int(values[plan.last : plan.trait].max(initial=0))
        raw, calibrated = evaluated.scores[service.name]
        alert = episodes.alert(
            self._people.names[row],
            service,
            evaluated.models[service.name],
            (float(raw[at]), float(calibrated[at])),
            self._known(evaluated.features[at])[self._inputs[service.name]],
            sure,
            signals.of(k),
            self._windows,
            (latest or now, now),
        )
        by = evaluated.recalibrated
        marked = msgspec.structs.replace(
            alert,
            withheld=withheld(alert.id, self._withheld),
            calibration=by.number(service.name, at) if by else 0,
        )
        return encode_alert(marked)

    def slots(self, i: int) -> tuple[int, int]:
        """Columns of a row that say when its episode of this type last opened, and whether it is open."""
        return self._plan.episode + 2 * i, self._plan.episode + 2 * i + 1
