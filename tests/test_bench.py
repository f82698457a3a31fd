"""What makes a benchmark's report, its page, and the environments of its peers; no figure is measured here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import pytest

from flows.store import Store
from tests.bench import curves, day, environments, flame, flame_picture, hot_user, peers, sampled, whole
from tests.bench.collapsed import collapsed
from tests.bench.engine import MIDNIGHT
from tests.bench.load import HOT
from tests.bench.page import besides, page
from tests.bench.result import Curve, Failed, Figure, Report, Result, figure, report

STACKS = {"flows/a.py run;flows/a.py work": 60, "flows/a.py run;[numpy] <take>": 39, "rare.py f;rare.py g": 1}


def made(**told: object) -> Report:
    """A report of a bench that measured little."""
    figures = {"per_s": figure([5.0, 6.0, 9.0], "1/s"), "p99_ms": figure([4.0], "ms")}
    theirs = {"a <peer>": {"per_s": figure([12.0], "1/s"), "p99_ms": figure([8.0], "ms")}}
    found = Result(figures, theirs, **told)  # type: ignore[arg-type]
    return report("small", "How small `it` is.", found, 1.0, quick=False)


def test_every_bench_has_a_place_in_the_whole() -> None:
    """What says how it is run is run by `all`, and what has a short run is a bench."""
    assert set(whole.names()) <= set(whole.ORDER)
    assert set(whole.QUICK) <= set(whole.ORDER)


def test_a_report_comes_back_from_its_json() -> None:
    """With who found it where, by which versions."""
    told = made(skipped={"flink": "no Java"}, curves={"memory": Curve("people", "MB", [(1.0, 2.0)])})
    again = msgspec.json.decode(msgspec.json.encode([told, Failed("push", "no store")]), type=list[Report | Failed])
    assert again == [told, Failed("push", "no store")]
    assert told.versions["telltale"]["bytewax"]


@pytest.mark.parametrize(("unit", "better"), [("1/s", "higher"), ("x", "higher"), ("ms", "lower"), ("rows", "")])
def test_which_way_is_good_follows_from_the_unit(unit: str, better: str) -> None:
    """Unless it is said."""
    assert figure([1.0], unit).better == better
    assert figure([1.0], unit, "lower").better == "lower"


def test_a_peer_that_is_ahead_is_told_in_words() -> None:
    """Behind it in one figure, ahead in the other, both by how much."""
    assert [(each.figure, each.factor) for each in besides(made())] == [("per_s", 0.5), ("p99_ms", 2.0)]
    shown = page([made()])
    assert '<span class="bad">behind a &lt;peer&gt;</span>' in shown
    assert '<span class="bad">ours 2 × less</span>' in shown
    assert '<span class="good">ours 2 × less</span>' in shown


def test_runs_that_overlap_are_told_so() -> None:
    """A difference within the spread is none."""
    ours, theirs = figure([5.0, 6.0, 9.0], "1/s"), figure([7.0, 8.0], "1/s")
    told = msgspec.structs.replace(made(), figures={"per_s": ours}, peers={"other": {"per_s": theirs}})
    assert "runs overlap" in page([told])
    assert "runs overlap" not in page([made()])


def test_a_bench_that_failed_is_told_with_what_it_said() -> None:
    """At the top and at its place, and nothing in it is HTML."""
    shown = page([Failed("growth", "expected <b>, got none"), made(skipped={"flink": "no <java>"})])
    assert "failed: expected &lt;b&gt;, got none" in shown
    assert "failed: growth" in shown
    assert "without flink: no &lt;java&gt;" in shown


def test_a_quick_run_says_so() -> None:
    """At the top and at the bench."""
    shown = page([msgspec.structs.replace(made(), quick=True)])
    assert "A quick run:" in shown
    assert ", a quick run</small>" in shown
    assert "quick" not in page([made()])


def test_a_page_fetches_nothing() -> None:
    """No script, no address."""
    shown = page([made(stacks=STACKS, curves={"memory": Curve("people", "MB", [(1e4, 2.0), (1e6, 8.0)])})])
    assert "<script" not in shown
    assert not re.search(r"src=|url\(|href=\"(?!#)", shown)


def test_a_curve_shows_every_point_in_order_of_size() -> None:
    """On a logarithmic axis: equal factors are equal distances."""
    drawn = curves.drawn("memory", Curve("people", "MB", [(1_000_000, 300.0), (10_000, 100.0), (100_000, 150.0)]))
    xs = [float(x) for x in re.findall(r'circle cx="([\d.]+)"', drawn)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert "<title>1 M people: 300 MB</title>" in drawn
    assert "10 k" in drawn


def test_a_flame_picture_is_as_wide_as_the_shares() -> None:
    """Calls under their callers, the widest first; names are text, not HTML."""
    drawn = flame_picture.drawn(STACKS)
    rows = re.findall(r"<title>(.*?)</title><rect x=\"([\d.]+)\" y=\"(\d+)\" width=\"([\d.]+)\"", drawn)
    found = {title.partition(": ")[0]: (float(x), int(y), float(width)) for title, x, y, width in rows}
    assert found["all"] == (0.0, 0, 1200.0)
    assert found["flows/a.py work"] == (0.0, 36, 720.0)
    assert found["[numpy] &lt;take&gt;"] == (720.0, 36, 468.0)
    assert 'class="native"' in drawn


def test_nothing_sampled_is_no_picture() -> None:
    """It says so instead."""
    assert flame_picture.drawn({}) == "<p class=soft>Nothing was seen.</p>"


def test_collapsed_stacks_are_made_fit_to_be_read() -> None:
    """Without lines, starts of threads and addresses; compiled code by its innermost call; waiting is no CPU."""
    assert collapsed(
        [
            "0x7f12 (libc.so.6);_run_code (<frozen runpy>:88);run (flows/a.py:3);take (numpy/x.so);copy (numpy/x.so) 3",
            "Thread._bootstrap (threading.py:1002);run (flows/a.py:4);take (numpy/x.so);copy (numpy/x.so) 2",
            "run (flows/a.py:3);_tramp::h0123456789abcdef (_bytewax.abi3.so);step (flows/b.py:7) 4",
            "run (flows/a.py:3);Event.wait (threading.py:629);Condition.wait (threading.py:331) 9",
            "run (flows/a.py:3);sock_recv (socketmodule.c:35);poll (libc.so.6) 9",
        ]
    ) == {"flows/a.py run;[numpy] copy": 5, "flows/a.py run;[bytewax];flows/b.py step": 4}


def test_shares_count_compiled_code_to_whoever_called_it() -> None:
    """Of all samples, in percent."""
    told = flame.shares({"flows/engine.py Engine.count;[numpy] take": 3, "flows/engine.py Engine.write": 1})
    assert told["share count"] == Figure(75.0, 75.0, 75.0, "%")
    assert told["self flows/engine.py Engine.count"].median == 75.0
    assert told["share scores"].median == 0.0


def test_an_engine_that_looks_at_itself_names_frames_as_py_spy_does() -> None:
    """So that one reader does for both."""
    here = sampled.stack(sys._getframe())
    ours = [name for name in next(iter(collapsed([f"{here} 1"]))).split(";") if name.startswith("tests/test_bench.py")]
    assert ours == ["tests/test_bench.py test_an_engine_that_looks_at_itself_names_frames_as_py_spy_does"]


@pytest.mark.slow
def test_a_half_made_environment_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was made whole is kept; what cannot be installed is said in pip's words."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(environments.Missing, match="nothing_at_all"):
        environments.environment("peer", "./nothing_at_all-1-py3-none-any.whl")
    left = environments.cache() / "peer" / "left-by-the-first"
    left.touch()
    programs = environments.environment("peer")
    assert not left.exists()
    assert environments.versions(programs, "pip[extra]>=1")["pip"]
    left.touch()
    assert environments.environment("peer") == programs
    assert left.exists()


def test_a_bench_that_cannot_run_does_not_end_the_others() -> None:
    """It is a report of its own."""
    found = whole._run("no-such-bench", quick=False)
    assert isinstance(found, Failed)
    assert "no-such-bench" in found.why


def test_a_peer_that_cannot_be_had_is_told_and_the_others_are_compared() -> None:
    """Its ratio is left out."""
    runs = {name: [peers.Run(speed, 1.0)] for name, speed in {"ours": 90.0, "as_often": 60.0, "script": 30.0}.items()}
    runs |= {"stored": [peers.Run(20.0, 1.0)], "script_redis": [peers.Run(5.0, 1.0)]}
    found = peers.result(runs, {"flink": "expected a program java, found none"})
    assert found.figures["ratio_script"].median == 3.0
    assert found.figures["ratio_script_stored"].median == 4.0
    assert "ratio_flink" not in found.figures
    assert found.skipped == {"flink": "expected a program java, found none"}


def test_a_day_has_all_its_hours_and_crosses_midnight() -> None:
    """As many events as were asked for, in time order."""
    hours = day.hours(100_000)
    assert len(hours) == 24
    assert sum(n for _, n in hours) == 100_000
    assert min(n for _, n in hours) > 0
    assert hours[0][0] < MIDNIGHT < hours[-1][0]
    assert [start for start, _ in hours] == sorted(start for start, _ in hours)


def test_a_hot_users_neighbours_are_told_from_the_others() -> None:
    """By the partition that the store puts them in."""
    store = Store(partitions=8, clock="wall", seed=1)
    others, beside = hot_user.probed(store)
    hot = hot_user._partition(store, HOT)
    assert len(others) == len(beside) == hot_user.PROBED
    assert {hot_user._partition(store, name) for name in beside} == {hot}
    assert hot not in {hot_user._partition(store, name) for name in others}
