"""Who will list a home."""

from training.model import Training

MODEL = Training(
    service="likely_to_sell",
    budget=0.024,
    rule={
        "value_check_count_30d": 1.0,
        "doc_download_count_30d": 1.0,
        "doc_share_count_30d": 2.0,
        "address_change_recent": 2.0,
        "job_change_recent": 1.0,
    },
)
