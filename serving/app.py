"""The API: what it is made of, and the process that runs it."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.resp import StoreError, pack
from flows.store import Store
from serving import (
    alert_deliveries,
    alert_outcomes,
    alert_stats,
    alert_status,
    alerts,
    api,
    catalog,
    challengers,
    crm,
    deliveries,
    docs_page,
    errors,
    feast_read,
    feast_write,
    feature_server,
    health,
    inference,
    ingest,
    last_scores,
    learning,
    metrics,
    model_training,
    models,
    on_demand,
    openapi,
    outcomes,
    page_routes,
    read_marks,
    recipients,
    replies,
    routing_rules,
    score,
    scoring,
    signals,
    tracking,
    trainings,
    users,
    webhook_tries,
    webhooks,
)
from serving.body import Gone, hung_up
from serving.front import Front, Requests
from serving.listening import keep_collector_off, listen, run
from serving.page_session import Sessions

OPERATIONS = [
    *ingest.operations,
    *users.operations,
    *signals.operations,
    *catalog.operations,
    *score.operations,
    *last_scores.operations,
    *on_demand.operations,
    *outcomes.operations,
    *inference.operations,
    *models.operations,
    *learning.operations,
    *model_training.operations,
    *alerts.operations,
    *alert_status.operations,
    *alert_stats.operations,
    *alert_outcomes.operations,
    *deliveries.operations,
    *webhooks.operations,
    *webhook_tries.operations,
    *recipients.operations,
    *routing_rules.operations,
    *crm.operations,
    *alert_deliveries.operations,
    *read_marks.operations,
    *replies.operations,
    *feast_read.operations,
    *feast_write.operations,
    *health.operations,
    *metrics.operations,
]


def build(parts: api.Api, scoring_: scoring.Scoring) -> Front:
    """The whole API, from its parts."""
    described = openapi.document(OPERATIONS)
    app = Starlette(
        routes=[
            *health.routes,
            *metrics.routes,
            *users.routes,
            *signals.routes,
            *catalog.routes,
            *score.routes,
            *last_scores.routes,
            *on_demand.routes,
            *outcomes.routes,
            *inference.routes,
            *alert_stats.routes,
            *models.routes,
            *learning.routes,
            *model_training.routes,
            *read_marks.routes,
            *alerts.routes,
            *alert_status.routes,
            *alert_outcomes.routes,
            *deliveries.routes,
            *webhooks.routes,
            *webhook_tries.routes,
            *recipients.routes,
            *routing_rules.routes,
            *crm.routes,
            *alert_deliveries.routes,
            *replies.routes,
            *tracking.routes,
            *openapi.routes(described),
            *docs_page.routes(described),
            *page_routes.routes,
        ],
        exception_handlers=errors.handlers | models.handlers | page_routes.handlers | {Gone: hung_up},
        lifespan=lifespan,
    )
    app.state.api, app.state.requests = parts, Requests()
    app.state.scoring = scoring_
    app.state.watch = scoring_.watch
    app.state.looks = on_demand.Looks(parts)
    app.state.people = alert_stats.People(parts)
    app.state.scorer = users.Scorer(parts.vocabulary, scoring_.watch)
    app.state.trainings = trainings.Trainings(parts.settings)
    app.state.last_scores = last_scores.LastScores(parts)
    app.state.sessions = Sessions(parts.settings, parts.client, parts.auth)
    app.state.signals = signals.Signals(parts)
    app.state.cataloguer = catalog.Cataloguer(parts.settings, parts.vocabulary)
    doors = ingest.doors(parts) | feature_server.doors(parts) | score.doors(parts.auth, scoring_.scorers)
    return Front(app, doors, parts.auth, app.state.requests, app.state.sessions)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Opens the store for appends; keeps the garbage collector off all that stays."""
    parts: api.Api = app.state.api
    await parts.appender.start()
    with contextlib.suppress(StoreError):
        (names,) = await parts.client.call(pack("HKEYS", keys.UNKNOWN))
        parts.intake.list_unknown(name.decode() for name in names)
    services = parts.vocabulary.services
    async with alerts.running(app, parts), app.state.scoring.running(), challengers.beside(app, services):
        keep_collector_off()
        yield
        gc.unfreeze()
    app.state.trainings.stop()
    await parts.appender.stop()
    parts.client.close()
    parts.reader.pipeline.close()


async def serve(settings: Settings, store: Store, vocabulary: Vocabulary) -> None:
    """Answers until SIGTERM or SIGINT."""
    parts = api.made(settings, store, vocabulary)
    scoring_ = scoring.made(parts)
    quick = feature_server.quick(parts) | score.quick(parts.auth, scoring_.scorers)
    await listen(settings, build(parts, scoring_), quick)


def main() -> int:
    """Runs the API; 2 with one clear line when it cannot start."""
    return run(serve)


if __name__ == "__main__":
    sys.exit(main())
