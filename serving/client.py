"""A small client of our own API, for the command line: JSON, metrics and the alert stream."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

from feature_repo.settings import Settings
from serving.complaint import Complaint


class Closed(Complaint):
    """The API did not answer."""


class Turned(Complaint):
    """The API answered with an error. `problem`: its body; `retry_after`: seconds, 0 when not said."""

    def __init__(self, line: str, status: int, problem: dict[str, Any], retry_after: float = 0.0) -> None:
        super().__init__(line)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class Door:
    """One keep-alive connection to the API. Not for several threads at once: `again` makes another."""

    def __init__(self, settings: Settings, key: str, timeout: float = 10.0) -> None:
        self.settings = settings
        self.key = key
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # compared, not bound
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        self._login = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        self._http = http.client.HTTPConnection(host, settings.port, timeout=timeout)

    def again(self, timeout: float = 10.0) -> Door:
        return Door(self.settings, self.key, timeout)

    def json(self, path: str) -> Any:
        """The JSON at `path`. Raises Closed or Turned."""
        return json.loads(self._ask("GET", path, None, {}))

    def text(self, path: str) -> str:
        return self._ask("GET", path, None, {}).decode()

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        return self._ask("POST", path, body, {"Content-Type": "application/json", **headers})

    def events(self, path: str, last: str = "") -> Iterator[tuple[str, Any]]:
        """(id, JSON) of each server-sent event after the one with id `last`, for as long as the stream lasts."""
        answer = self._open("GET", path, None, {"Last-Event-ID": last} if last else {})
        mark = ""
        for line in _lines(answer):
            field, _, value = line.partition(":")
            if field == "id":
                mark = value.strip()
            elif field == "data":
                yield mark, json.loads(value)

    def close(self) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        answer = self._open(method, path, body, headers)
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Closed(f"{self.url} broke off its answer: {error}") from error

    def _open(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        try:
            self._http.request(method, path, body, {"Authorization": self._login, **headers})
            answer = self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Closed(f"no Telltale answers at {self.url} ({error}): start it with `telltale up`") from error
        if answer.status >= 400:
            raise _turned(answer, f"{method} {path}")
        return answer


def _lines(answer: http.client.HTTPResponse) -> Iterator[str]:
    try:
        while line := answer.readline():
            yield line.decode().rstrip("\r\n")
    except (OSError, http.client.HTTPException) as error:
        raise Closed(f"the stream broke off: {error}") from error


def _turned(answer: http.client.HTTPResponse, what: str) -> Turned:
    text = answer.read().decode(errors="replace")
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {"detail": text}
    wait = answer.headers.get("Retry-After", "0")
    said = problem.get("detail") or problem.get("title")
    return Turned(f"{what}: {answer.status} {said}", answer.status, problem, float(wait) if wait.isdigit() else 0.0)
