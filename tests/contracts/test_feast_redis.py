"""What Feast's SDK writes we read, what we write it reads, to the last byte: by its Redis store and its remote one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo import layout
from feature_repo.layout import PROJECT, entity_key
from feature_repo.moments import microseconds
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import connect, embedded
from tests.live import KEY, Live, live

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own
VOCABULARY = Vocabulary()
NAMES = ["user_finances:credit_enquiries_90d", "user_finances:home_value", "user_finances:mortgage_balance"]
NOW = datetime.now(UTC).replace(microsecond=123456)
ROW = {"credit_enquiries_90d": -3, "home_value": 410_000.25, "mortgage_balance": 0.0}


class Ground:
    """Our doors, and two FeatureStores over the same Valkey: `redis` beside the doors, `remote` through them."""

    def __init__(self, api: Live, client: redis.Redis, place: Path, port: int) -> None:
        self.api, self.client = api, client
        self.redis = _store(place, {"type": "redis", "connection_string": f"localhost:{port}"})
        self.remote = _store(place, {"type": "remote", "path": f"http://{KEY}:@127.0.0.1:{api.port}"})
        self.redis.apply(_objects(place))

    def stored(self, id_: str) -> dict[bytes, bytes]:
        return dict(self.client.hgetall(entity_key("user_id", f"main/{id_}".encode())))

    def door(self, df: pd.DataFrame) -> int:
        told = df.assign(event_timestamp=df["event_timestamp"].map(str)).drop(columns="created")
        body = {"feature_view_name": "user_finances", "df": told.to_dict("list")}
        return self.api.post("/write-to-online-store", body).status

    def read(self, *ids: str) -> dict[str, list[Any]]:
        """By the SDK beside the doors."""
        found = self.redis.get_online_features(NAMES, [{"user_id": f"main/{id_}"} for id_ in ids]).to_dict()
        return {name: found[name] for name in ROW}


def _store(place: Path, online: dict[str, Any]) -> Any:
    from feast import FeatureStore, RepoConfig

    return FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            registry=str(place / "registry.db"),
            provider="local",
            online_store=online,
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )


def _objects(place: Path) -> list[Any]:
    from feature_repo.feast_objects import objects

    return objects(VOCABULARY, place)[1:]  # without the project


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("home")
    server = embedded(home)
    try:
        with warnings.catch_warnings(), live(Settings(home=home, partitions=2), "serving.feature_server") as api:
            warnings.simplefilter("ignore")  # Feast's own
            yield Ground(api, connect(api.settings), tmp_path_factory.mktemp("feast"), server.where.port)
    finally:
        server.stop()


def rows(*ids: str, at: datetime = NOW, **values: Any) -> pd.DataFrame:
    stamps = {"event_timestamp": pd.to_datetime([at] * len(ids)), "created": pd.to_datetime([NOW] * len(ids))}
    columns = {name: [value] * len(ids) for name, value in {**ROW, **values}.items()}
    return pd.DataFrame({"user_id": list(ids), **stamps, **columns})


def test_the_doors_bytes_are_feasts(ground: Ground) -> None:
    """The same row through the door and by the SDK leaves the same fields with the same bytes."""
    assert ground.door(rows("ours", home_value=None)) == 200
    ground.redis.write_to_online_store("user_finances", rows("main/theirs", home_value=None))
    assert ground.stored("ours") == ground.stored("theirs") != {}


def test_the_sdk_reads_what_the_door_wrote(ground: Ground) -> None:
    """Values, nulls, and the moment."""
    assert ground.door(rows("read", home_value=None)) == 200
    assert ground.read("read", "nobody") == {
        "credit_enquiries_90d": [-3, None],
        "home_value": [None, None],
        "mortgage_balance": [0.0, None],
    }
    answer = ground.redis.get_online_features(NAMES[:1], [{"user_id": "main/read"}])
    assert answer.proto.results[1].event_timestamps[0].ToDatetime(UTC) == NOW


def test_we_read_what_the_sdk_wrote(ground: Ground) -> None:
    ground.redis.push("user_finances_push", rows("main/written"))
    stored = ground.stored("written")
    assert {name: layout.read_value(stored[layout.field("user_finances", name)]) for name in ROW} == ROW
    assert layout.read_timestamp_us(stored[layout.timestamp_field("user_finances")]) == microseconds(NOW)


def test_neither_writes_over_what_is_newer(ground: Ground) -> None:
    """Whoever wrote that."""
    later = NOW + timedelta(microseconds=1)
    assert ground.door(rows("race", at=later)) == 200
    ground.redis.write_to_online_store("user_finances", rows("main/race", home_value=1.0))
    assert ground.read("race")["home_value"] == [ROW["home_value"]]
    ground.redis.write_to_online_store("user_finances", rows("main/other", at=later))
    assert ground.door(rows("other", home_value=1.0)) == 200
    assert ground.read("other")["home_value"] == [ROW["home_value"]]


@pytest.mark.parametrize("how", ["push", "write"])
def test_the_remote_store_writes_through_the_door(ground: Ground, how: str) -> None:
    """`store.push` and `store.write_to_online_store`, with the key in the URL; the door adds the organisation."""
    df = rows(f"{how}-a", f"{how}-b", mortgage_balance=None)
    if how == "push":
        ground.remote.push("user_finances_push", df)
    else:
        ground.remote.write_to_online_store("user_finances", df)
    expected = {**ROW, "mortgage_balance": None}
    assert ground.read(f"{how}-a", f"{how}-b") == {name: [value] * 2 for name, value in expected.items()}


def test_the_remote_store_reads_back_what_it_wrote(ground: Ground) -> None:
    ground.remote.write_to_online_store("user_finances", rows("back"))
    found = ground.remote.get_online_features(NAMES, [{"user_id": "back"}]).to_dict()
    assert {name: found[name] for name in ROW} == {name: [value] for name, value in ROW.items()}


def test_the_remote_store_is_told_why_the_streams_view_is_not_its_own(ground: Ground) -> None:
    """A client writes external views only."""
    names = [feature.name for feature in VOCABULARY.features]
    df = pd.DataFrame({"user_id": ["x"], "event_timestamp": [NOW], "created": [NOW], **{name: [1.0] for name in names}})
    with pytest.raises(RuntimeError, match="409"):
        ground.remote.write_to_online_store("user_features", df)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # Hypothesis wants it so
BYTES = settings(max_examples=300, deadline=None, derandomize=True)


@BYTES
@given(id_=TEXTS, entity=st.sampled_from(VOCABULARY.entities))
def test_keys_are_feasts(id_: str, entity: Any) -> None:
    """Any id, the empty one and emoji included."""
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=[entity.join_key], entity_values=[Value(string_val=id_)])
    assert entity_key(entity.join_key, id_.encode()) == _redis_key(PROJECT, key, 3)


@BYTES
@given(view=TEXTS, name=TEXTS)
def test_fields_are_feasts(view: str, name: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    assert layout.field(view, name) == _mmh3(f"{view}:{name}")


@BYTES
@given(value=st.none() | st.floats() | INT64 | TEXTS)
def test_values_are_feasts_and_read_back(value: Any) -> None:
    """Doubles of all kinds, negative integers, zero, any text, the empty one, null."""
    from feast.protos.feast.types.Value_pb2 import Value

    kinds: dict[type, Any] = {
        float: ("double_val", layout.double),
        int: ("int64_val", layout.integer),
        str: ("string_val", layout.text),
    }
    if value is None:
        theirs, ours = Value(), layout.NULL
    else:
        name, encode = kinds[type(value)]
        theirs, ours = Value(**{name: value}), encode(value)
    assert ours == theirs.SerializeToString()
    assert layout.read_value(ours) == value or value != value  # noqa: PLR0124  # NaN


@BYTES
@given(moment=MOMENTS, whole=st.booleans())
def test_moments_are_feasts_and_read_back(moment: datetime, whole: bool) -> None:
    """With a fraction of a second and without, from 1970 on."""
    from google.protobuf.timestamp_pb2 import Timestamp

    moment = moment.replace(microsecond=0) if whole else moment
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    ours = layout.timestamp_us(microseconds(moment))
    assert ours == stamp.SerializeToString()
    assert layout.read_timestamp_us(ours) == microseconds(moment)
