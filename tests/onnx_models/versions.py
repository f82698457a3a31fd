"""The model of the small library, and its versions, oldest first."""

from feature_repo.services import SERVICES

SERVICE = next(service for service in SERVICES if service.alert)
NAME = SERVICE.name
A, B, C, D = ALL = tuple(f"2026010{day}000000" for day in (1, 2, 3, 4))
