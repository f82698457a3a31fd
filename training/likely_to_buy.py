"""Who will buy a home."""

from training.model import Training

MODEL = Training(
    service="likely_to_buy",
    budget=0.019,
    rule={
        "comparable_views_30d": 1.0,
        "calculator_use_count_30d": 1.0,
        "doc_download_count_30d": 1.0,
        "job_change_recent": 1.0,
    },
)
