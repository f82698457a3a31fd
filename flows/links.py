"""The links in a message: what each token says, signed, so that nobody makes one up or leads elsewhere by it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec

Kind = Literal["open", "click", "unsubscribe"]
_LETTERS: dict[Kind, bytes] = {"open": b"o", "click": b"c", "unsubscribe": b"u"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_MAC = 12  # bytes: as hard to guess as a 96-bit key
_REPLY_MAC = 6
_PREFIX, _ID = "dl_", 16  # of a delivery's id; bytes behind it
MOST = 1_000  # characters of a token


class Said(msgspec.Struct, frozen=True):
    """What a token says: of which delivery, of a click where it leads (a path of ours), and of an
    unsubscription `channel/recipient`.
    """

    kind: Kind
    delivery: str
    path: str = ""


class Links:
    """`public`: the address under which people reach the API, without a slash at its end."""

    def __init__(self, key: bytes, public: str, reply_to: str = "") -> None:
        self._key, self.public = key, public.rstrip("/")
        self._local, _, self._domain = reply_to.rpartition("@")

    def token(self, said: Said) -> str:
        text = _LETTERS[said.kind] + bytes.fromhex(said.delivery.removeprefix(_PREFIX)) + said.path.encode()
        return base64.urlsafe_b64encode(self._mac(text) + text).rstrip(b"=").decode()

    def read(self, token: str, *kinds: Kind) -> Said | None:
        """What it says, if it is ours and of one of these kinds; else None."""
        if len(token) > MOST:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        mac, text = raw[:_MAC], raw[_MAC:]
        if not hmac.compare_digest(mac, self._mac(text)):
            return None
        delivery, path = text[1 : 1 + _ID].hex(), text[1 + _ID :].decode()
        said = Said(_KINDS[text[:1]], _PREFIX + delivery, path)
        return said if said.kind in kinds else None

    def pixel(self, delivery: str) -> str:
        return f"{self.public}/t/{self.token(Said('open', delivery))}.gif"

    def click(self, delivery: str, path: str) -> str:
        return f"{self.public}/c/{self.token(Said('click', delivery, path))}"

    def unsubscribe(self, delivery: str, recipient: str, channel: str) -> str:
        """It names whom, so that it holds when the delivery is long forgotten."""
        return f"{self.public}/u/{self.token(Said('unsubscribe', delivery, f'{channel}/{recipient}'))}"

    def plain(self, path: str) -> str:
        """A link that tells nobody that it was followed."""
        return self.public + path

    def reply_address(self, delivery: str) -> str:
        """Where an answer to the message comes; empty where answers are not taken.

        `local+TOKEN@domain`: the token in base32, since mail servers may change the case of what stands before the @,
        which is 64 characters long at most.
        """
        if not self._domain:
            return ""
        id_ = bytes.fromhex(delivery.removeprefix(_PREFIX))
        return f"{self._local}+{_base32(self._reply_mac(id_) + id_)}@{self._domain}"

    def replied(self, address: str) -> str | None:
        """The delivery whose address for replies it is; None where we did not give it."""
        token = address.rpartition("@")[0].rpartition("+")[2].upper()
        try:
            raw = base64.b32decode(token + "=" * (-len(token) % 8))
        except ValueError:
            return None
        mac, id_ = raw[:_REPLY_MAC], raw[_REPLY_MAC:]
        return _PREFIX + id_.hex() if hmac.compare_digest(mac, self._reply_mac(id_)) else None

    @property
    def domain(self) -> str:
        """Whose the message ids are."""
        return urlsplit(self.public).hostname or "localhost"

    def _reply_mac(self, id_: bytes) -> bytes:
        return self._mac(b"r" + id_)[:_REPLY_MAC]

    def _mac(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, digest_size=_MAC, key=self._key).digest()


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def person_path(user: str) -> str:
    """The page of a person."""
    return f"/people/{quote(user, safe='')}"
