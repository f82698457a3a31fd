"""Five hundred models that are none (in `make test` a hundred), before a running API: none scores, none ends it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from flows.embedded import embedded
from flows.store import connect
from onnx_models.proof import probed
from tests.faults.rounds import ALL
from tests.live import Live, live
from tests.onnx_models import mutants
from tests.onnx_models.mutants import NAME, VERSION
from tests.onnx_models.test_probe import harmless

BATCH, FLIPPED, CUT = 100, 60, 17  # of which the rest are hostile
BATCHES = 5 if ALL else 1


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One that scores with the original, which ships."""
    home = tmp_path_factory.mktemp("api")
    shutil.copytree(mutants.original(), home / "shipped" / NAME / mutants.original().name)
    server = embedded(home)
    settings = Settings(home=home, models=str(home / "shipped"))
    try:
        with closing(connect(settings)), live(settings) as running:
            yield running
    finally:
        server.stop()


@pytest.mark.parametrize("seed", range(BATCHES))
def test_no_mutant_gets_in(api: Live, tmp_path: Path, seed: int) -> None:
    """A hundred at a time: refused when tried, or it answers as the original; and what is refused is not promoted."""
    made = [*mutants.hostile(tmp_path), *mutants.cut(tmp_path, CUT, seed), *mutants.flipped(tmp_path, FLIPPED, seed)]
    verdicts = probed(made)
    assert len(made) >= BATCH
    let_in = [Path(verdict.place) for verdict in verdicts if not verdict.wrong]
    assert len(let_in) < 0.1 * len(made)
    assert all(harmless(place) for place in let_in)
    died = [Path(verdict.place) for verdict in verdicts if "died" in verdict.wrong]
    for place in (*died[:2], made[seed], made[-1]):
        before_the_api(api, place, refused=place not in let_in)


def before_the_api(api: Live, place: Path, *, refused: bool) -> None:
    """The mutant lies among the others as the newest, and is to be promoted."""
    target = api.settings.home / "onnx_models" / NAME / VERSION
    target.parent.mkdir(parents=True, exist_ok=True)
    place.rename(target)
    try:
        answer = api.post(f"/v1/models/{NAME}/promote", {"version": VERSION})
        assert (answer.status == 409) is refused, answer.json
        api.post(f"/v1/models/{NAME}/reload", {})
        assert scoring(api) == (mutants.original().name if refused else VERSION)
        assert api.process.poll() is None
    finally:
        shutil.rmtree(target.parent)
        api.post(f"/v1/models/{NAME}/reload", {})


def scoring(api: Live) -> str:
    models = api.ask("GET", "/v1/models").json["models"]
    return str(next(model["scoring"] for model in models if model["name"] == NAME))
