"""What `feast apply` registers in this directory: everything that `domain.py` declares."""

from feature_repo.feast_objects import registered

globals().update(registered(__file__))
