"""`/v1/features/catalog`: every view and feature, what it means, and which model uses it."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.declare import Field, Input, View
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from serving.definitions import Definitions
from serving.errors import json_response
from serving.openapi import Operation


class CatalogFeature(msgspec.Struct, kw_only=True):
    """`window`: of what the stream counts. `default`: stands in a model's inputs for what is not known; null of a text.

    `services`: the models that it is an input of.
    """

    name: str
    kind: Literal["number", "integer", "text"]
    unit: str
    window: str | None
    default: float | None
    description: str
    services: list[str]
    defined: str


class CatalogView(msgspec.Struct, kw_only=True):
    """Features that live together. `push_source`: where outside data goes in; null: the stream writes it."""

    name: str
    entity: str
    join_key: str
    description: str
    owner: str
    ttl_days: int
    push_source: str | None
    features: list[CatalogFeature]


class CatalogEntity(msgspec.Struct):
    name: str
    join_key: str
    description: str


class CatalogInput(msgspec.Struct, kw_only=True):
    """What only the request for a score can give, and what stands where it leaves it out."""

    name: str
    unit: str
    default: float
    description: str
    services: list[str]
    defined: str


class CatalogService(msgspec.Struct):
    """A model's inputs, in order, as `view:feature`, or `request:input`."""

    name: str
    description: str
    alert: str | None
    features: list[str]


class Catalog(msgspec.Struct):
    entities: list[CatalogEntity]
    views: list[CatalogView]
    inputs: list[CatalogInput]
    services: list[CatalogService]


class Cataloguer:
    """What a vocabulary declares, in the catalogue's words; put together when it is first asked for."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        self._directory, self._vocabulary = settings.feature_repo, vocabulary
        self._inputs = {s.name: [self._full(name) for name in s.features] for s in vocabulary.services}

    @cached_property
    def _definitions(self) -> Definitions:
        return Definitions(self._vocabulary, self._directory)

    @cached_property
    def catalogue(self) -> Catalog:
        v = self._vocabulary
        return Catalog(
            [CatalogEntity(e.name, e.join_key, e.description) for e in v.entities],
            [self._view(view) for view in v.views.values()],
            [self._input(reference, given) for reference, given in v.inputs.items()],
            [CatalogService(s.name, s.description, s.alert, self._inputs[s.name]) for s in v.services],
        )

    def _full(self, reference: str) -> str:
        return reference if ":" in reference else f"{self._vocabulary.view}:{reference}"

    def _view(self, view: View) -> CatalogView:
        return CatalogView(
            name=view.name,
            entity=view.entity,
            join_key=self._vocabulary.entity_of(view).join_key,
            description=view.description,
            owner=view.owner,
            ttl_days=view.ttl_days,
            push_source=view.push_source if view.external else None,
            features=[self._feature(view, field) for field in view.fields],
        )

    def _feature(self, view: View, field: Field) -> CatalogFeature:
        v = self._vocabulary
        counted = None if view.external else v.features[v.feature_index[field.name]]
        return CatalogFeature(
            name=field.name,
            kind=field.kind,
            unit=field.unit,
            window=counted.window if counted else None,
            default=None if field.kind == "text" else field.default,
            description=field.description,
            services=self._users(f"{view.name}:{field.name}"),
            defined=self._definitions.of(view, field),
        )

    def _input(self, reference: str, given: Input) -> CatalogInput:
        return CatalogInput(
            name=given.name,
            unit=given.unit,
            default=given.default,
            description=given.description,
            services=self._users(reference),
            defined=self._definitions.of_input(given),
        )

    def _users(self, reference: str) -> list[str]:
        return [name for name, inputs in self._inputs.items() if reference in inputs]


async def catalogue(request: Request) -> Response:
    cataloguer: Cataloguer = request.app.state.cataloguer
    return json_response(cataloguer.catalogue)


routes = [Route("/v1/features/catalog", catalogue)]
operations = [
    Operation(
        path="/v1/features/catalog",
        summary="Every view and feature: whose it is, what it means, who writes it, which models use it",
        tag="Features",
        gives=Catalog,
    ),
]
