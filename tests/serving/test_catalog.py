"""The catalogue of features, and where it finds them declared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from feature_repo.vocabulary import load
from serving.definitions import Definitions
from tests.live import ROOT, Live
from tests.serving.test_described import wrong

VOCABULARY = load()
FEATURES = [(view, field) for view in VOCABULARY.views.values() for field in view.fields]
OTHER = str(ROOT / "tests" / "contracts" / "domains" / "bpi2012_loan")


@pytest.fixture
def catalogue(api: Live) -> Any:
    """As a client gets it."""
    return api.ask("GET", "/v1/features/catalog").json


def test_it_is_as_described(api: Live, catalogue: Any) -> None:
    """`/openapi.json` has its shape."""
    document = api.ask("GET", "/openapi.json").json
    content = document["paths"]["/v1/features/catalog"]["get"]["responses"]["200"]["content"]
    assert wrong(document, content["application/json"]["schema"], catalogue) == []


def test_it_lists_every_feature_as_declared(catalogue: Any) -> None:
    """View, owner and TTL; name, kind, unit and description."""
    told = [
        (v["name"], v["entity"], v["owner"], v["ttl_days"], f["name"], f["kind"], f["unit"], f["description"])
        for v in catalogue["views"]
        for f in v["features"]
    ]
    assert told == [(v.name, v.entity, v.owner, v.ttl_days, f.name, f.kind, f.unit, f.description) for v, f in FEATURES]


def test_it_lists_what_only_a_request_gives(catalogue: Any) -> None:
    """With unit and default, and where it is declared."""
    told = [(i["name"], i["unit"], i["default"], i["description"]) for i in catalogue["inputs"]]
    assert told == [(i.name, i.unit, i.default, i.description) for i in VOCABULARY.inputs.values()]
    for given in catalogue["inputs"]:
        file, line = given["defined"].split(":")
        said = "".join(Path(ROOT, file).read_text().splitlines()[int(line) - 1 : int(line) + 1])
        assert f'"{given["name"]}"' in said


def test_what_the_stream_counts_has_a_window(catalogue: Any) -> None:
    """And nobody may push it; what is pushed has none, but a default all the same."""
    (flow, *external) = catalogue["views"]
    declared = {f.name: (f.window, f.default) for f in VOCABULARY.features}
    assert {f["name"]: (f["window"], f["default"]) for f in flow["features"]} == declared
    assert flow["push_source"] is None
    assert [view["push_source"] for view in external] == [view.push_source for view in VOCABULARY.external]
    assert {f["window"] for view in external for f in view["features"]} == {None}
    defaults = {f"{w.name}:{f.name}": f.default for w in VOCABULARY.external for f in w.fields}
    assert {f"{view['name']}:{f['name']}": f["default"] for view in external for f in view["features"]} == defaults


def test_it_tells_who_uses_a_feature(catalogue: Any) -> None:
    """A service lists its inputs in order, and each of them lists the service."""
    users = {f"{v['name']}:{f['name']}": f["services"] for v in catalogue["views"] for f in v["features"]}
    users |= {f"request:{given['name']}": given["services"] for given in catalogue["inputs"]}
    for service, declared in zip(catalogue["services"], VOCABULARY.services, strict=True):
        full = [name if ":" in name else f"{VOCABULARY.view}:{name}" for name in declared.features]
        assert service["features"] == full
        assert all(service["name"] in users[feature] for feature in service["features"])
    assert users["lead_crm:engagement_score"] == []


@pytest.mark.parametrize(("view", "field"), FEATURES, ids=lambda one: one.name)
def test_a_feature_is_declared_where_it_says(catalogue: Any, view: Any, field: Any) -> None:
    """The line names the feature, or what its name is made of: a signal, a template."""
    (told,) = [
        f["defined"]
        for v in catalogue["views"]
        if v["name"] == view.name
        for f in v["features"]
        if f["name"] == field.name
    ]
    file, line = told.split(":")
    said = " ".join(Path(ROOT, file).read_text().splitlines()[int(line) - 1 : int(line) + 2])
    parts = re.findall(r'"([a-z_{}0-9]+)"', said.replace("{family}", ""))
    assert any(part in field.name for part in parts), said


def test_another_domain_is_found_in_its_own_files() -> None:
    """By its name, or by the template that made it."""
    vocabulary = load(OTHER)
    definitions, view = Definitions(vocabulary, OTHER), vocabulary.views[vocabulary.view]
    source = Path(OTHER, "domain.py").read_text().splitlines()
    for name, said in {"steps_7d": '_feature("steps_7d"', "a_approved_complete_90d": '_feature(f"{name}_90d"'}.items():
        (field,) = [f for f in view.fields if f.name == name]
        file, line = definitions.of(view, field).split(":")
        assert (file, said in source[int(line) - 1]) == ("bpi2012_loan/domain.py", True)


def test_files_that_are_no_python_are_passed_over(tmp_path: Path) -> None:
    """A directory of one's own may hold other things, too."""
    (tmp_path / "domain.py").write_text("from feature_repo.domain import *\n")
    (tmp_path / "notes.py").write_text("not python at all\n")
    view = VOCABULARY.views[VOCABULARY.view]
    assert Definitions(load(str(tmp_path)), str(tmp_path)).of(view, view.fields[0]) == f"{tmp_path.name}/domain.py"
