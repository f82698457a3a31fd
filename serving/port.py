"""Whether we could listen where we are told to."""

from __future__ import annotations

import socket
import time

from feature_repo.settings import Settings
from serving.complaint import Complaint


def claim_port(settings: Settings, patience: float = 0.0) -> None:
    """Raises Complaint when nobody could listen there, also not after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (reason := _port_taken(settings)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if reason:
        raise Complaint(
            f"cannot listen on {settings.host}:{settings.port} ({reason}): "
            "stop what runs there, or set TELLTALE_PORT to another port"
        )


def _port_taken(settings: Settings) -> str:
    """Why; empty when it is free."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""
