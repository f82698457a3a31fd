"""What reaches people and CRMs, made of the settings: who writes the messages, and the channels that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from feature_repo import vocabulary
from feature_repo.networks import networks
from feature_repo.settings import SettingError, Settings
from flows.apprise_channel import AppriseChannel
from flows.channel import Channel
from flows.crm_channel import CrmChannel
from flows.email_channel import EmailChannel, server
from flows.letter import check_address
from flows.links import Links
from flows.mail import Writer
from flows.signing_key import signing_key
from flows.web import Web
from flows.words import advice


def writer(given: Settings, engine: sa.Engine) -> Writer:
    """Raises SettingError, OperationalError."""
    return Writer(
        links=links(given, engine),
        advice=advice(vocabulary.load(given.feature_repo)),
        sender=_address("TELLTALE_MAIL_FROM", given.mail_from),
        tracking=given.tracking,
    )


def links(given: Settings, engine: sa.Engine) -> Links:
    """Raises SettingError, OperationalError."""
    public = given.public_url or f"http://{given.host}:{given.port}"
    parts = urlsplit(public)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise SettingError(f"TELLTALE_PUBLIC_URL={public!r}: expected http(s)://host[:port][/path]")
    reply = _address("TELLTALE_MAIL_REPLY_TO", given.mail_reply_to) if given.mail_reply_to else ""
    return Links(signing_key(engine), public, parseaddr(reply)[1])


def check(given: Settings) -> None:
    """Raises SettingError for what `channels` would refuse."""
    server(given.smtp_url)


def channels(given: Settings, web: Web) -> Sequence[Channel[Any]]:
    """Raises SettingError."""
    allowed = networks(given.webhook_allow)
    return (
        EmailChannel(server(given.smtp_url), given.mail_from),
        AppriseChannel("sms", allowed),
        AppriseChannel("chat", allowed),
        CrmChannel(web),
    )


def _address(name: str, text: str) -> str:
    try:
        check_address(parseaddr(text)[1])
    except ValueError as error:
        raise SettingError(f"{name}={text!r}: {error}") from None
    return text
