"""What the command says when it cannot do what was asked."""


class Complaint(Exception):
    """One line in plain words; the command prints it and ends with exit code 2."""
