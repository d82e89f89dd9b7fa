"""`python -m isocenter`."""


def main() -> None:
    """Run the command line."""
