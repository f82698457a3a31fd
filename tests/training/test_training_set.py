"""`telltale backfill --labels`: rows of (user, as_of) come back with the features of their moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_repo import training_sets
from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from tests.live import ROOT
from tests.training.made_lake import made_lake
from training import labels, materialised
from training.backfill import features, stream
from training.feed import Feed, user
from training.past import NotReadable
from training.simulate import EPOCH, simulate
from training.training_set import Wanted, service_of, training_set

VOCABULARY = Vocabulary()
NAMES = [feature.name for feature in VOCABULARY.features]
HISTORY = simulate(30, 120, seed=9)
MS = pa.timestamp("ms")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated history as JSON lines of Segment calls, some of which come twice."""
    feed = Feed(HISTORY, "test")
    path = tmp_path_factory.mktemp("past") / "history.jsonl"
    calls = feed.calls(0, len(feed))
    path.write_bytes(b"\n".join(calls + calls[100:200]))  # some twice
    return path


def asked(path: Path, users: list[str], at: Any, **more: list[Any]) -> labels.Labels:
    """A Parquet file of labels, read back."""
    pyarrow.parquet.write_table(pa.table({"user": users, "as_of": pa.array(at, MS), **more}), path)
    return labels.read(path)


def backfill(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "backfill", *map(str, words)]
    environ = {"TELLTALE_HOME": str(home)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_what_only_a_request_gives_is_left_to_the_labels(lines: Path, tmp_path: Path) -> None:
    """Rows for a model get every input that is stored; a column of the labels that says another stays as it is."""
    service = service_of(VOCABULARY, "email_engagement")
    rows = asked(tmp_path / "in.parquet", [user(1)], [HISTORY.end], **{"request:mail_words": [120.0]})
    wanted = Wanted(history=lines, vocabulary=VOCABULARY, service=service)
    found, _ = training_set(wanted, rows)
    assert found.column_names == ["user", "as_of", "request:mail_words", *VOCABULARY.stored(service)]
    assert found["request:mail_words"].to_pylist() == [120.0]


def test_features_as_of(lines: Path, tmp_path: Path) -> None:
    """JSON lines give, bit for bit, what the simulated events themselves give, in the labels' order; columns stay."""
    rng = np.random.default_rng(1)
    person, at = rng.integers(0, 30, 50), rng.integers(HISTORY.start, HISTORY.end, 50)
    notes = list(range(50))
    rows = asked(tmp_path / "in.parquet", [user(p) for p in person], at, note=notes)
    found, _ = training_set(Wanted(history=lines, vocabulary=VOCABULARY), rows)
    expected = features(Plan(VOCABULARY), stream(HISTORY, VOCABULARY), person, at)
    for i, name in enumerate(NAMES):
        assert np.array_equal(found[name].to_numpy(), expected[:, i]), name
    assert (found["note"].to_pylist(), found["user"].to_pylist()) == (notes, [user(p) for p in person])


def test_a_service_has_its_features_in_its_order(lines: Path, tmp_path: Path) -> None:
    """With a service the columns after the labels' own are its list."""
    service = service_of(VOCABULARY, "likely_to_sell")
    rows = asked(tmp_path / "in.parquet", ["person-000001"], [HISTORY.end], label=[1])
    found, _ = training_set(Wanted(history=lines, vocabulary=VOCABULARY, service=service), rows)
    assert tuple(found.column_names) == ("user", "as_of", "label", *service.features)


def test_unknown_people_get_defaults(lines: Path, tmp_path: Path) -> None:
    """Somebody whom the history does not know has the features of one who never did anything."""
    rows = asked(tmp_path / "in.parquet", ["nobody", "no one"], [HISTORY.end, HISTORY.start])
    found, _ = training_set(Wanted(history=lines, vocabulary=VOCABULARY), rows)
    for name in NAMES:
        assert found[name].to_pylist() == [VOCABULARY.features[NAMES.index(name)].default] * 2


def test_columns_named_like_features_are_refused(lines: Path, tmp_path: Path) -> None:
    """A label column that a feature would hide is named."""
    rows = asked(tmp_path / "in.parquet", ["a"], [EPOCH], property_count=[3])
    with pytest.raises(NotReadable, match="property_count; rename"):
        training_set(Wanted(history=lines, vocabulary=VOCABULARY), rows)


def test_command_writes_what_feast_reads(lines: Path, tmp_path: Path) -> None:
    """The command takes CSV, says what it wrote, and with --feast leaves the rows that an as-of lookup finds again."""
    rows, out = tmp_path / "in.csv", tmp_path / "out.parquet"
    rows.write_text("user,as_of,label\nperson-000001,2023-03-01T12:00:00Z,1\nperson-000002,2023-04-01T00:00:00Z,0\n")
    ended = backfill(tmp_path, "--labels", rows, "--out", out, "--history", lines, "--feast")
    view = VOCABULARY.views[VOCABULARY.view]
    place = training_sets.directory(tmp_path, view)
    assert (ended.returncode, ended.stdout) == (0, f"{place / 'out.parquet'}\n{out}: 2 rows\n"), ended.stderr
    again = tmp_path / "again.parquet"
    ended = backfill(tmp_path, "--labels", rows, "--out", again, "--from-rows", place)
    assert ended.returncode == 0, ended.stderr
    assert pyarrow.parquet.read_table(again).equals(pyarrow.parquet.read_table(out))


def test_command_says_what_is_missing(tmp_path: Path) -> None:
    """Without labels, or with a history that is not there: exit code 2 and one line."""
    assert backfill(tmp_path).stderr == "telltale: backfill: expected --labels FILE and --out FILE.parquet\n"
    (tmp_path / "in.csv").write_text("user,as_of\na,2023-03-01\n")
    ended = backfill(tmp_path, "--labels", tmp_path / "in.csv", "--out", tmp_path / "o", "--history", tmp_path / "x")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "x: expected JSON lines of Segment calls or a lake's directory, there is nothing" in ended.stderr


def test_bad_lines_are_named(tmp_path: Path) -> None:
    """A line of the history that is no call, or has no time, is named with its number."""
    history = tmp_path / "history.jsonl"
    rows = asked(tmp_path / "in.parquet", ["a"], [EPOCH])
    for bad in (b"{", b'{"type": "track", "event": "Document Viewed", "userId": "a"}', b"\xff"):
        history.write_bytes(b'{"type":"identify","userId":"a","timestamp":"2023-01-01T00:00:00Z"}\n' + bad)
        with pytest.raises(NotReadable, match="line 2: expected a Segment call"):
            training_set(Wanted(history=history, vocabulary=VOCABULARY), rows)


@pytest.mark.parametrize(
    "times",
    [
        ["2023-03-01T12:00:00Z", "2023-03-02T00:00:00Z"],
        ["2023-03-01 12:00:00", "2023-03-02 00:00:00"],
        ["2023-03-01T13:00:00+01:00", "2023-03-02"],
        ["1677672000", "1677715200"],
        ["1677672000.0", "1677715200000"],
        ["1677672000000", "2023-03-02T00:00"],
    ],
)
def test_times_are_iso_or_epochs(tmp_path: Path, times: list[str]) -> None:
    """ISO 8601 with or without a zone, epochs in seconds or milliseconds, also mixed: UTC."""
    (tmp_path / "in.csv").write_text("user,as_of\n" + "".join(f"a,{time}\n" for time in times))
    assert labels.read(tmp_path / "in.csv").milliseconds.tolist() == [1677672000000, 1677715200000]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user,when\na,2023-01-01\n", "expected the columns user and as_of, got user, when"),
        ("user,as_of\na,2023-01-01\nb,soon\n", "line 3, column as_of: expected an ISO 8601 time"),
        ("user,as_of\na,2023-01-01\n,2023-01-01\n", "line 3, column user: expected a user's id, got nothing"),
        ("user,as_of\na,2023-01-01\nb,\n", "line 3, column as_of: expected an ISO 8601 time"),
        ("user,as_of\na,2023-01-01,3\n", "expected CSV"),
    ],
)
def test_what_is_wrong_with_labels_is_named(tmp_path: Path, text: str, says: str) -> None:
    """File, line and column of what cannot be read."""
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(NotReadable, match=says) as raised:
        labels.read(tmp_path / "in.csv")
    assert str(tmp_path / "in.csv") in str(raised.value)


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    """As what they are, and not as bad CSV."""
    with pytest.raises(NotReadable, match=r"in\.csv: no such file$"):
        labels.read(tmp_path / "in.csv")


def rows_of(path: Path, *rows: tuple[str, int, int, float | None]) -> Path:
    """Materialised rows of one feature: whose, as of when and written when (microseconds), value."""
    users, at, written, values = zip(*rows, strict=True)
    time = pa.timestamp("us", tz="UTC")
    columns = {
        "user_id": pa.array(users),
        training_sets.EVENT_TIMESTAMP: pa.array(at).cast(time),
        training_sets.CREATED: pa.array(written).cast(time),
        "x": pa.array(values, pa.float64()),
    }
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def test_the_latest_row_counts_that_is_no_newer(tmp_path: Path) -> None:
    """To the microsecond, of rows of one moment the one written last; null where none is, or too old; none is lost."""
    day = 86_400_000_000
    path = rows_of(
        tmp_path / "rows.parquet",
        *(("a", 10, 5, 3.0), ("a", 10, 6, 4.0), ("a", 20, 7, 5.0), ("a", 10, 4, 2.0)),
        *(("b", 7, 1, None), ("z", 1, 1, 9.0)),
    )
    users = pa.array(["a", "a", "a", "a", "b", "c", "a", "a"])
    at = np.array([9, 10, 19, 20, 8, 8, 20 + day, 21 + day])
    found = materialised.lookup(path, "user_id", users, at, ("x",), 1)
    assert found["x"].to_pylist() == [None, 4.0, 4.0, 5.0, None, None, 5.0, None]


def test_an_as_of_lookup_is_what_a_loop_finds(tmp_path: Path) -> None:
    """On random rows in several files and parts, many of one moment."""
    rng = np.random.default_rng(3)
    rows = [(f"u{rng.integers(8)}", int(rng.integers(60)), i, float(i)) for i in range(300)]
    for part in range(3):
        rows_of(tmp_path / f"{part}.parquet", *rows[part::3])
    asked_of = [f"u{rng.integers(10)}" for _ in range(200)]
    at = rng.integers(0, 60, 200)
    found = materialised.lookup(tmp_path, "user_id", pa.array(asked_of), at, ("x",), 90)
    expected = [
        max((r for r in rows if r[0] == who and r[1] <= then), key=lambda r: (r[1], r[2]), default=(0, 0, 0, None))[3]
        for who, then in zip(asked_of, at.tolist(), strict=True)
    ]
    assert found["x"].to_pylist() == expected


def test_rows_without_a_feature_are_refused(tmp_path: Path) -> None:
    """The column that is missing is named."""
    path = rows_of(tmp_path / "rows.parquet", ("a", 1, 1, 1.0))
    with pytest.raises(NotReadable, match="y is missing"):
        materialised.lookup(path, "user_id", pa.array(["a"]), np.array([1]), ("y",), 1)


def test_an_organisation_that_the_lake_has_not_is_named(tmp_path: Path) -> None:
    """So that a wrong one is no set of defaults."""
    lake = made_lake(tmp_path, {"at": 0, "user": "ann", "event": "document_access"})
    wanted = Wanted(history=lake, vocabulary=VOCABULARY, organisation="acme")
    with pytest.raises(NotReadable, match="among main; got 'acme'"):
        training_set(wanted, asked(tmp_path / "in.parquet", ["ann"], [EPOCH]))
