"""Who will open the mail that is about to leave, within 7 days."""

from onnx_models.card import Recommendation
from training import mailings
from training.model import BOOSTED, Label, Training

MODEL = Training(
    service="email_engagement",
    label=Label(horizon_days=7, events=("email_open",), at=("email_sent",)),
    rule={"email_open_rate_90d": 10.0, "email_click_rate_90d": 5.0, "session_count_30d": 0.1},
    candidates=(BOOSTED,),
    telling=("email_open_rate_90d",),  # some people's mail is opened by a program, all of it
    rises=("email_open_rate_90d", "email_click_rate_90d"),
    recommendations=(
        Recommendation("SEND", 0.4, 0.0, "likely to be opened: send it now"),
        Recommendation("SEND_AT_A_BETTER_TIME", 0.15, 0.0, "may be opened: ask again for other hours, take the best"),
        Recommendation(
            "HOLD_BACK", 0.0, 0.0, "unlikely to be opened, and each mail unopened makes the next likelier so"
        ),
    ),
    simulated=mailings.rows,
)
