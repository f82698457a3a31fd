"""Settings, all from the environment. Each one's name, default and meaning stand here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from feature_repo.networks import networks


class SettingError(ValueError):
    """A setting has a value that it cannot have."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`TELLTALE_` + the upper-case name sets each."""

    home: Path = Path(".telltale")  # where data lives
    host: str = "127.0.0.1"  # where the API listens
    port: int = 8400
    redis_url: str = ""  # your Redis or Valkey >= 6.2; empty: the embedded one
    database_url: str = ""  # alerts; empty: SQLite in `home`
    clock: Literal["wall", "log"] = "wall"  # for a store about to be created: whose time ids carry
    partitions: int = 8  # for a store about to be created
    engines: Annotated[int, msgspec.Meta(ge=0)] = 1  # that `telltale up` starts; they share the partitions
    feature_repo: str = ""  # directory of another domain; empty: real estate
    models: str = ""  # directory of models beside those of the home; empty: of another domain, or the ones that ship
    cache_users: int = 620_000  # people that the engine keeps in memory
    dedup_hours: int = 24  # how long a messageId is remembered
    dedup_ids: int = 8_000_000  # how many at most; some 20 bytes each
    memory_limit: float = 0.7  # share of Redis' maxmemory at which ingest answers 503
    cooldown_days: int = 30  # between two alerts of one type for one person
    alert_days: Annotated[int, msgspec.Meta(ge=0)] = 30  # after which an alert of which nothing came expires; 0: never
    alert_cost: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # of an alert, in the unit of values told; 0: not known
    alert_budget: Annotated[float, msgspec.Meta(ge=0)] = 0.1  # alerts a year and active person that are meant
    withheld: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.02  # share of alerts that nobody is told of
    lake_seconds: int = 30  # how long the lake may wait to fill a file
    lake_features: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01  # share of people whose features it keeps
    lake_features_mb: int = 256  # of them in Redis at most, while the lake does not come for them
    lake_days: int = 0  # how long the lake keeps a date; 0: for ever
    delivery_days: int = 30  # how long ended deliveries and their attempts are kept; 0: for ever
    webhook_allow: str = ""  # networks inside that webhooks may be sent to, comma-separated
    public_url: str = ""  # under which people reach the API, for links in messages; empty: host and port
    smtp_url: str = ""  # where mail is handed in; empty: none is sent
    mail_from: str = "Telltale <telltale@localhost>"  # whose mail it is
    mail_reply_to: str = ""  # where answers to mail go; empty: nowhere
    tracking: bool = True  # whether messages show that they were opened and followed

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'telltale.db'}"


def load(environ: dict[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises SettingError that names the variable, what it takes and what came."""
    environ = dict(os.environ) if environ is None else environ
    known = {f"TELLTALE_{name.upper()}": name for name in Settings.__struct_fields__}
    given = {known[key]: value for key, value in environ.items() if key in known}
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, Settings, strict=False, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise SettingError(f"TELLTALE_{name.upper()}={value!r}: {error}".split(" - at")[0]) from None
    settings = msgspec.convert(given, Settings, strict=False, dec_hook=_path)
    _check_networks(settings.webhook_allow)
    domain = str(Path(settings.feature_repo).absolute()) if settings.feature_repo else ""
    models = settings.models or (f"{domain}/onnx_models" if domain else "")
    return msgspec.structs.replace(settings, home=settings.home.absolute(), feature_repo=domain, models=models)


def _check_networks(text: str) -> None:
    try:
        networks(text)
    except ValueError as error:
        raise SettingError(f"TELLTALE_WEBHOOK_ALLOW={text!r}: expected networks as 10.1.0.0/16: {error}") from None


def _path(kind: type, value: object) -> object:
    return kind(str(value))
