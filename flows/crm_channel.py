"""Writes to CRMs: score, confidence and explanation into the person's record, by the CRM's own interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from flows.addresses import RefusedError
from flows.channel import Dead, Gone, Parcel, Result, Retry, Sent
from flows.crm import CRM, CrmRequest, CrmTarget, crm_targets
from flows.web import Answer, Unreached, Web

SCHEDULE: tuple[float, ...] = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 86_400.0)  # some 42 h
LATER = {401, 403, 404, 408, 409, 423, 425, 429}  # what time, or an operator, may put right; other 4xx are for ever
OF_ONE = {404, 409}  # about the record: it may be there tomorrow, and other records are
_decode = msgspec.json.Decoder(CrmRequest).decode


class CrmChannel:
    """A request carries `Idempotency-Key`, the same over all attempts, so that a CRM may tell a repeat."""

    name = CRM
    schedule = SCHEDULE
    timeout_s = 15.0
    at_once = 4
    most = 50

    def __init__(self, web: Web) -> None:
        self._web = web

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, CrmTarget]:
        return {one.id: one for one in crm_targets.of_ids(connection, ids) if one.enabled}

    async def send(self, parcel: Parcel, to: CrmTarget) -> Result:
        asked = _decode(parcel.body)
        if not asked.url:
            return Dead(asked.why)
        headers = {"Content-Type": "application/json", **to.headers, "Idempotency-Key": parcel.id}
        try:
            return _result(await self._web.send(asked.method, asked.url, bytes(asked.json), headers))
        except RefusedError as error:
            return Retry(f"refused: {error}")  # a name may resolve to something else tomorrow
        except Unreached as error:
            return Retry(str(error))

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        """A 410 is about one record, so nothing says that the CRM is gone."""
        return True


def _result(answer: Answer) -> Result:
    said = f"{answer.status} {answer.said}".strip()
    if answer.good:
        return Sent(said)
    if 400 <= answer.status < 500 and answer.status not in LATER:
        return Dead(f"answered {said}")
    return Retry(f"answered {said}", answer.after_s, of_one=answer.status in OF_ONE)
