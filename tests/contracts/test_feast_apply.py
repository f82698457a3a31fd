"""A real `feast apply` in a copy of the room, and Feast's own SDK on what it registered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from feature_repo.declare import Service
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import Embedded, create
from serving.feast_address import feast_address
from tests.flows import streams_made as made
from tests.live import ROOT, environment
from tests.training.made_lake import made_lake
from tests.training.test_pushed import asked, pushed
from training.feast_rows import write_for_feast
from training.feed import Feed, user
from training.simulate import simulate
from training.training_set import Wanted, training_set

VOCABULARY = Vocabulary()
VIEW = VOCABULARY.views[VOCABULARY.view]
SERVICE = VOCABULARY.services[0]
FEAST = Path(sys.executable).with_name("feast")
TTL = timedelta(days=VIEW.ttl_days)

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own


def apply(room: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`feast apply`, as its user runs it in the room."""
    given = {**os.environ, "PYTHONPATH": str(room.parent), **environ}
    return subprocess.run([FEAST, "apply"], cwd=room, env=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def applied(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the room in which `feast apply` succeeded, and all that it said."""
    room = tmp_path_factory.mktemp("clone") / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", room, ignore=shutil.ignore_patterns("__pycache__"))
    done = apply(room, TELLTALE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    return room, done.stdout + done.stderr


@pytest.fixture(scope="module")
def repository(applied: tuple[Path, str], valkey: Embedded) -> Iterator[Any]:
    """The SDK on the room, with the store's address from where its user has it."""
    with pytest.MonkeyPatch.context() as environ, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        from feast import FeatureStore

        environ.setenv("TELLTALE_FEAST_REDIS", feast_address(Settings(home=valkey.home)))
        yield FeatureStore(repo_path=str(applied[0]))


def test_a_fresh_clone_applies_without_a_warning(applied: tuple[Path, str]) -> None:
    """No store runs, no row was written, nothing is set: and it has nothing to complain of."""
    room, said = applied
    assert "warn" not in said.lower()
    assert (room.parent / ".telltale" / "registry.db").exists()


def test_everything_declared_is_registered(repository: Any) -> None:
    """Views, entities and the sources that outside data is pushed to."""
    assert {view.name for view in repository.list_all_feature_views()} == VOCABULARY.views.keys()
    assert {entity.name for entity in repository.list_entities()} == {entity.name for entity in VOCABULARY.entities}
    sources = {source.name for source in repository.list_data_sources()}
    assert {view.push_source for view in VOCABULARY.external} <= sources


def test_a_registered_service_keeps_its_models_order(repository: Any) -> None:
    """Every model's inputs but those that only a request gives, as `services.py` lists them, view by view."""
    found = {one.name: one.feature_view_projections for one in repository.list_feature_services()}
    listed = {name: [(view.name, f.name) for view in views for f in view.features] for name, views in found.items()}
    assert listed == {service.name: _by_view(service) for service in VOCABULARY.services}


def _by_view(service: Service) -> list[tuple[str, str]]:
    pairs = [pair for pair in map(VOCABULARY.resolve, VOCABULARY.stored(service)) if pair]
    order = list(dict.fromkeys(view.name for view, _ in pairs))
    return sorted(((view.name, field.name) for view, field in pairs), key=lambda pair: order.index(pair[0]))


def test_a_broken_domain_is_told_all_its_errors(applied: tuple[Path, str], tmp_path: Path) -> None:
    """Each in a line, and no traceback."""
    (tmp_path / "domain.py").write_text(
        "from feature_repo.declare import Count, EventType, Feature, Service\n"
        "EVENTS = (EventType(name='viewed', description='viewed'),)\n"
        "OF = Count('seen', days=99)\n"
        "FEATURES = (Feature(name='views', unit='', window='', default=0.0, description='', of=OF),)\n"
        "SERVICES = (Service(name='model', features=('nothing',), description=''),)\n"
    )
    done = apply(applied[0], TELLTALE_FEATURE_REPO=str(tmp_path), TELLTALE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "3 errors in the declarations:",
        "feature views: no event type seen",
        "feature views: a window is 1-24 hours or 1-90 days, got 99 d 0 h",
        "service model: no feature nothing",
    ]


def test_features_check_tells_the_same(tmp_path: Path) -> None:
    """`telltale features check` ends with 1 and a line for each error."""
    (tmp_path / "domain.py").write_text("EVENTS, FEATURES, ENTITIES = (), (), ()\nVIEWS = ()\n")
    sound = check(Settings(home=tmp_path))
    assert (sound.returncode, sound.stdout.split(":")[0]) == (0, "4 entities, 10 views, 75 features, 9 services")
    (tmp_path / "domain.py").write_text("from feature_repo.domain import *\nFEATURES += FEATURES[:2]\n")
    broken = check(Settings(home=tmp_path, feature_repo=str(tmp_path)))
    assert (broken.returncode, len(broken.stdout.splitlines())) == (1, 2)


def check(settings: Settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.command", "features", "check"]
    return subprocess.run(command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_registered_service_reads_what_the_flow_wrote(
    repository: Any, client: redis.Redis, settings: Settings
) -> None:
    """All inputs of a model, bit for bit (Feast answers in no order); nulls for somebody who never came."""
    store = create(client, settings)
    for event in made.random_events(VOCABULARY, np.random.default_rng(3), 300, 8, 40):
        made.post(client, store, VOCABULARY, [event])
    engine = made.engine(VOCABULARY, settings, store, client)
    made.drain(engine)
    engine.close()
    rows = [{VOCABULARY.join_key: f"org/{user}"} for user in ("u0", "u1", "nobody")]
    found = repository.get_online_features(repository.get_feature_service(SERVICE.name), rows).to_dict()
    assert found.keys() == {VOCABULARY.join_key, *SERVICE.features}
    for number, name in enumerate(("u0", "u1")):
        assert {f: found[f][number] for f in SERVICE.features} == made.features(client, VOCABULARY, name)
    assert {found[name][2] for name in SERVICE.features} == {None}


@pytest.fixture(scope="module")
def labels(home: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Instants to learn from, with the features that `telltale backfill --feast` found and left for Feast."""
    place, history = tmp_path_factory.mktemp("past"), simulate(20, 60, seed=4)
    feed, rng = Feed(history, "test"), np.random.default_rng(4)
    (place / "history.jsonl").write_bytes(b"\n".join(feed.calls(0, len(feed))))
    at = pd.to_datetime(rng.integers(history.start, history.end, 60), unit="ms", utc=True)
    given = pd.DataFrame({"user": [user(p) for p in rng.integers(0, 20, 60)], "as_of": at})
    given.to_csv(place / "labels.csv", index=False)
    words = {"--labels": "labels.csv", "--history": "history.jsonl", "--out": "out.parquet", "--organisation": "org"}
    command = [sys.executable, "-m", "serving.command", "backfill", *sum(words.items(), ()), "--feast"]
    environ = {**os.environ, "TELLTALE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=place, env=environ, capture_output=True, check=True)
    found = pd.read_parquet(place / "out.parquet")
    return found.assign(**{VOCABULARY.join_key: "org/" + found["user"], "event_timestamp": at})


def historical(repository: Any, asked: pd.DataFrame) -> pd.DataFrame:
    """Feast's answer, in the order asked."""
    numbered = asked[[VOCABULARY.join_key, "event_timestamp"]].assign(row=range(len(asked)))
    job = repository.get_historical_features(numbered, repository.get_feature_service(SERVICE.name))
    return job.to_df().sort_values("row").reset_index(drop=True)


def test_training_sets_through_feast_are_what_backfill_wrote(
    applied: tuple[Path, str], repository: Any, labels: pd.DataFrame
) -> None:
    """`get_historical_features` at the labels' instants gives the same numbers, bit for bit, row for row."""
    found = historical(repository, labels)
    assert len(found) == len(labels)
    for name in SERVICE.features:
        assert found[name].tolist() == labels[name].tolist(), name


@pytest.mark.parametrize(
    ("shift", "there"),
    [(timedelta(0), True), (TTL, True), (TTL + timedelta(milliseconds=1), False), (timedelta(days=-99), False)],
    ids=["at once", "at the end of the TTL", "after it", "before the first row"],
)
def test_a_label_outside_the_ttl_keeps_its_row(
    applied: tuple[Path, str], repository: Any, labels: pd.DataFrame, shift: timedelta, there: bool
) -> None:
    """With nulls for features: Feast's own file store would drop it."""
    latest = labels.sort_values("event_timestamp").groupby(VOCABULARY.join_key).tail(1).reset_index(drop=True)
    found = historical(repository, latest.assign(event_timestamp=latest["event_timestamp"] + shift))
    assert len(found) == len(latest)
    assert found[list(SERVICE.features)].notna().all(axis=None) == there
    assert found[list(SERVICE.features)].notna().any(axis=None) == there


def test_somebody_without_rows_keeps_the_label(
    applied: tuple[Path, str], repository: Any, labels: pd.DataFrame
) -> None:
    """The row comes back with nulls beside one that has features."""
    asked = labels.head(2).copy()
    asked.loc[0, VOCABULARY.join_key] = "org/nobody"
    found = historical(repository, asked)
    assert found[SERVICE.features[0]].isna().tolist() == [True, False]


def test_pushed_features_come_through_feast_as_of_then(
    applied: tuple[Path, str], repository: Any, home: Path, tmp_path: Path
) -> None:
    """Null before the push and past its TTL, as the training set has them that was made of the same lake."""
    value, day = "user_finances:home_value", 86_400_000
    lake = made_lake(tmp_path, pushed(10, "ann", 10, home_value=1.0), pushed(30, "ann", 30, home_value=3.0))
    rows = asked(*(("ann", at) for at in (9, 10, 29, 30, 90 * day + 30, 90 * day + 31)), ("bob", 30))
    service = Service(name="valued", features=(value,), description="")
    wanted = Wanted(history=lake, vocabulary=VOCABULARY, service=service)
    table, found = training_set(wanted, rows)
    assert table[value].to_pylist() == [None, 1.0, 1.0, 3.0, 3.0, None, None]
    write_for_feast(home, wanted, rows, found, "valued")
    entities = pd.DataFrame({VOCABULARY.join_key: "main/" + table["user"].to_pandas(), "row": range(len(rows))})
    entities["event_timestamp"] = table["as_of"].to_pandas()
    answered = repository.get_historical_features(entities, [value]).to_df().sort_values("row")
    assert [None if np.isnan(n) else n for n in answered["home_value"]] == table[value].to_pylist()


def test_the_readmes_lines_of_python_run(
    applied: tuple[Path, str], repository: Any, labels: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, beside the room: what is online now, and a training set of the service's inputs."""
    (block,) = re.findall(r"```python\n(.*?)```", (applied[0] / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(applied[0].parent)
    said: dict[str, Any] = {"labels": labels[[VOCABULARY.join_key, "event_timestamp"]].copy()}
    exec(block, said)
    inputs = next(set(service.features) for service in VOCABULARY.services if service.name == "likely_to_sell")
    assert set(said["now"]) == {VOCABULARY.join_key, *inputs}
    assert said["now"][VOCABULARY.join_key] == ["main/ada"]
    assert len(said["rows"]) == len(labels)
    assert inputs < set(said["rows"])
