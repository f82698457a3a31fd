"""Every Redis key and stream, and every field that is not Feast's. `{p}` is a partition number."""

STORE = "tt:store"  # hash: partitions, clock, seed, version; written once when the store is created
KEYS = "tt:write_keys"  # hash: write key -> organisation
ADMINS = "tt:write_keys:admin"  # set: write keys that may also train and deploy models, which all organisations share
VOCABULARIES = "tt:vocabularies"  # hash: fingerprint -> codebook (JSON), so that older entries and state stay readable
LAYOUTS = "tt:layouts"  # hash: fingerprint -> names of a state row's numbers, for the same reason
ERAS = (
    "tt:eras"  # list: what each vocabulary that ran counted (JSON), so that nobody's history is taken for a whole one
)
ALERTS = "tt:alerts"  # stream: alerts on their way to SQL
ALERTS_STORED = "tt:alerts:stored"  # pub/sub: "there are new rows in SQL"
ALERTS_MOVED = "tt:alerts:moved"  # pub/sub: "there are new steps of alerts in SQL"
DELIVERY = "tt:delivery"  # hash: what the process that delivers last said of itself, for /metrics
DELIVERIES = "tt:deliveries"  # pub/sub: "look at what is to be delivered"
ENGINES = "tt:engines"  # hash: engine -> when it last spoke (ms, the store's clock), its vocabulary: `flows/members.py`
UNKNOWN = "tt:unknown"  # hash: event name -> times seen
DEAD = "tt:dead"  # stream: entries set aside because they could not be processed
TRIES = "tt:tries"  # hash: partition:entry -> how many engines began it alone, while it is sought which one ends them
FEATURE_SETS = "tt:feature_sets"  # hash: fingerprint -> features' names (JSON), so that older served rows stay readable
LAKE = "tt:lake"  # hash: what the lake last said of itself, for /metrics
CONSISTENCY = "tt:consistency"  # hash: what `telltale consistency` last found, for /metrics
PREDICTIONS = "tt:predictions"  # stream: predictions that were answered, until the lake has them
PREDICTIONS_POSITION = "tt:predictions:lake"  # id of the last of its entries that the lake contains
PREDICTION_COUNTS = "tt:predictions:counts"  # hash: logged, dropped: predictions since the store was created
LEARNING = "tt:learning"  # hash: what the learner last said of itself, for /metrics
SCORE_SETS = "tt:score_sets"  # hash: fingerprint -> models and versions (JSON) of the last scores beside the features
LOSSES = "tt:losses"  # hash: partition, or lake:partition -> lost events that an operator has accepted as lost
REBUILDING = "tt:rebuilding"  # how far `telltale rebuild` came, until it is done: nothing else may start before

HOT = b"tt:h:"  # + 8 bytes of user id: the part of the state that every event changes
COLD = b"tt:c:"  # + 8 bytes of user id: name and closed tiles


def log(partition: int) -> str:
    """Stream: the partition's entries. Fields `e` (columns) and `r` (raw JSON lines, zstd)."""
    return f"tt:{{{partition}}}:log"


def epoch(partition: int) -> str:
    """Counter: how often the partition changed hands. A write by an earlier owner fails."""
    return f"tt:{{{partition}}}:epoch"


def gauges(engine: str) -> str:
    """Hash: what an engine last said of itself, for /metrics; expires with it."""
    return f"tt:gauges:{engine}"


def lease(partition: int) -> str:
    """Who owns the partition now; expires unless renewed."""
    return f"tt:{{{partition}}}:lease"


def position(partition: int) -> str:
    """Id of the last entry that state and features contain."""
    return f"tt:{{{partition}}}:position"


def deaths(partition: int) -> str:
    """Counter: lives of engines with that partition since one came a step forward."""
    return f"tt:{{{partition}}}:deaths"


def redo(partition: int) -> str:
    """Bytes: all that a large flush under way writes, so that the next owner can finish it."""
    return f"tt:{{{partition}}}:redo"


def lake_position(partition: int) -> str:
    """Id of the last entry that the lake contains."""
    return f"tt:{{{partition}}}:lake"


def lake_counts(partition: int) -> str:
    """Hash: events in the entries up to the lake's position; missing: those that were gone before it came for them."""
    return f"tt:{{{partition}}}:lake_counts"


def served(partition: int) -> str:
    """Stream: features as written, of the people whom the lake follows, until the lake has them."""
    return f"tt:{{{partition}}}:served"


def served_position(partition: int) -> str:
    """Id of the last entry of `served` that the lake contains."""
    return f"tt:{{{partition}}}:lake_served"


def served_dropped(partition: int) -> str:
    """Counter: rows of `served` that were dropped because the lake did not come for them."""
    return f"tt:{{{partition}}}:served_dropped"


def outcomes(partition: int) -> str:
    """Stream: outcome events as they were counted, until the learner has them."""
    return f"tt:{{{partition}}}:outcomes"


def outcomes_dropped(partition: int) -> str:
    """Counter: events of `outcomes` that were dropped because nobody came for them."""
    return f"tt:{{{partition}}}:outcomes_dropped"


def eras(partition: int) -> str:
    """Hash: number of an era -> id of the last entry before it; `NUMBER:logged` -> of the last in the log then."""
    return f"tt:{{{partition}}}:eras"


def loads(partition: int) -> str:
    """Hash: number of an era -> id of the last entry that `telltale backfill --load` reads for it."""
    return f"tt:{{{partition}}}:loads"


def counts(partition: int) -> str:
    """Hash: accepted, processed, duplicate, unknown, late, quarantined, lost: events since the store was created."""
    return f"tt:{{{partition}}}:counts"


def seen(partition: int, minute: int) -> str:
    """Bytes: 8 a message id first seen in that minute of log time."""
    return f"tt:{{{partition}}}:seen:{minute}"


def seen_minutes(partition: int) -> str:
    """Sorted set: the minutes that have a `seen` key."""
    return f"tt:{{{partition}}}:seen"


def slice_of(partition: int, minute: int) -> str:
    """Set: user ids to refresh at that minute of the day."""
    return f"tt:{{{partition}}}:slice:{minute}"


def defaults(fingerprint: int) -> str:
    """Hash: the features of somebody of whom nothing is known, of which a new person's hash begins as a copy."""
    return f"tt:defaults:{fingerprint}"


def tick(partition: int) -> str:
    """The last minute (since 1970) whose slice was refreshed."""
    return f"tt:{{{partition}}}:tick"


def session(digest: str) -> str:
    """JSON: who signed in to the page with which write key; expires. `digest`: of the cookie's token."""
    return f"tt:session:{digest}"
