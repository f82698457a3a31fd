"""All that the page is made of, in the order in which paths are tried."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from serving import page_acts, page_alerts, page_assets, page_people, page_sign_in, page_statistics, page_system
from serving.page import missing

handlers = {HTTPException: missing}
routes = [
    *page_assets.routes,
    *page_sign_in.routes,
    *page_acts.routes,
    *page_alerts.routes,
    *page_people.routes,
    *page_statistics.routes,
    *page_system.routes,
]
