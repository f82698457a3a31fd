"""What a simulated world is made of: how often people act, and how it shows. No code is shared with the features.

Yearly rates are of the order that public counts give, rounded; they are parameters, not estimates:

- listing a home: about 4-5 M existing homes sell a year (National Association of Realtors, existing-home
  sales 2019-2024) among about 86 M owner households (Census Bureau, Housing Vacancy Survey): about 5 %.
- buying: those and about 0.7 M new homes (Census Bureau, new residential sales) among about 132 M households: 4 %.
- refinancing: 2.2 M (2022) to 8.3 M (2021) loans a year (CFPB, "2022 Mortgage Market Activity and Trends", from
  HMDA data) among about 50 M owners with a mortgage (Census Bureau, American Community Survey): 4-16 %, here 6 %.
- buying to invest: about 0.1 M purchases a month by investors (CoreLogic, single-family investor activity, 2022)
  among 86 M owner households: 1-2 %, here 2 %.
"""

from __future__ import annotations

import msgspec

TYPES = (
    "session",
    "document_access",
    "document_download",
    "document_share",
    "calculator_use",
    "property_value_check",
    "comparable_view",
    "market_report_view",
    "profile_update",
    "email_sent",
    "email_open",
    "email_click",
    "home_listed",
    "home_bought",
    "loan_refinanced",
    "investment_made",
)
ACTS = TYPES[1:9]  # what a visit may hold
OUTCOMES = TYPES[12:]
TAGS = ("newsletter", "market", "refinance", "listing", "address", "job", "marital_status", "phone")
TOPICS = TAGS[:4]  # of mail
FIELDS = TAGS[4:]  # of a profile update
TRAITS = (
    "property_count",
    "property_value",
    "mortgage_balance",
    "home_purchase_date",
    "address",
    "job_title",
    "marital_status",
)
TEXT_TRAITS = TRAITS[4:]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that people come to want, and how wanting it shows.

    `yearly`: outcomes a person-year. `interest` and `commitment`: acts added a visit at full intent; those who
    only dream show the interest in full and little of the commitment. `topic`: mail that they open and click.
    """

    outcome: str
    yearly: float
    interest: dict[str, float]
    commitment: dict[str, float]
    topic: str
    sudden: float  # share of outcomes without any plan before
    spring: float  # share by which the season moves it
    life_event: float  # share that begins with a change of address, job or marital status


class World(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a simulated world; rates a person and day unless they say otherwise."""

    plans: tuple[Plan, ...]
    ramp_days: float = 110.0  # median time from the first thought to the act
    ramp_spread: float = 0.35  # of its logarithm
    serious_hazard: float = 2.6  # integrated: 1 - exp(-2.6) = 93 % of the serious act
    dreamers: float = 0.9  # dreaming plans for each serious one
    dreamer_hazard: float = 0.08
    dreamer_commitment: float = 0.12  # of a serious person's
    silent: float = 0.12  # share of people whose plans leave no trace
    trace_spread: float = 0.35  # of the logarithm of how much a plan shows
    visits: float = 0.10
    visits_shape: float = 0.7  # of the gamma by which people differ; smaller = more unequal
    visits_at_intent: float = 0.55  # visits a day added at full intent
    acts: dict[str, float]  # a visit, of people without a plan
    acts_shape: float = 0.8
    bursts: float = 4.0  # a year: a week of much activity that means nothing
    burst_factor: float = 3.0
    mail_every_days: int = 7
    subscribed: float = 0.85
    machine_readers: float = 0.35  # people whose mail program opens all mail at once
    opens: float = 0.22
    clicks: float = 0.12  # of the opens by a person
    clicks_at_intent: float = 0.6
    missing_traits: float = 0.2
    unknown_people: float = 0.1  # share whose traits are never told
    minutes: float = 7.0  # median visit
    weekend: float = 0.8  # visits on a weekend day by those on a weekday


FIRST = World(
    plans=(
        Plan(
            outcome="home_listed",
            yearly=0.05,
            interest={"property_value_check": 1.0, "comparable_view": 0.7, "market_report_view": 0.3},
            commitment={"document_access": 1.3, "document_download": 1.0, "document_share": 0.8},
            topic="market",
            sudden=0.37,
            spring=0.3,
            life_event=0.3,
        ),
        Plan(
            outcome="home_bought",
            yearly=0.04,
            interest={"comparable_view": 1.8, "market_report_view": 0.3},
            commitment={"calculator_use": 1.2, "document_download": 1.0, "profile_update": 0.6},
            topic="listing",
            sudden=0.24,
            spring=0.25,
            life_event=0.3,
        ),
        Plan(
            outcome="loan_refinanced",
            yearly=0.06,
            interest={"calculator_use": 1.0, "property_value_check": 0.3},
            commitment={"document_access": 1.8, "calculator_use": 0.8, "profile_update": 0.4},
            topic="refinance",
            sudden=0.38,
            spring=0.1,
            life_event=0.1,
        ),
        Plan(
            outcome="investment_made",
            yearly=0.02,
            interest={"market_report_view": 1.0, "comparable_view": 1.0},
            commitment={"calculator_use": 0.9, "property_value_check": 0.9, "document_share": 0.6},
            topic="market",
            sudden=0.27,
            spring=0.05,
            life_event=0.05,
        ),
    ),
    acts={
        "document_access": 0.25,
        "document_download": 0.08,
        "document_share": 0.03,
        "calculator_use": 0.12,
        "property_value_check": 0.3,
        "comparable_view": 0.35,
        "market_report_view": 0.15,
        "profile_update": 0.04,
    },
)

SECOND = msgspec.structs.replace(
    FIRST,
    plans=tuple(
        msgspec.structs.replace(
            plan,
            yearly=plan.yearly * factor,
            interest={act: lift * 0.8 for act, lift in plan.interest.items()},
            commitment={act: lift * 0.9 for act, lift in plan.commitment.items()},
        )
        for plan, factor in zip(FIRST.plans, (0.8, 1.25, 0.7, 1.2), strict=True)
    ),
    ramp_days=95.0,
    visits=0.14,
    visits_shape=0.9,
    dreamers=1.2,
    silent=0.18,
    bursts=8.0,
    machine_readers=0.5,
    mail_every_days=5,
    missing_traits=0.35,
)

CONTACTS = msgspec.structs.replace(
    FIRST, plans=tuple(msgspec.structs.replace(plan, yearly=plan.yearly * 4) for plan in FIRST.plans)
)  # of a broker, shown live: who leaves an address there wants something four times as often as other people
