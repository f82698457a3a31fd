"""Online learners: each a file, and a line in `catalogue.py`. Pure: examples in, numbers out."""
