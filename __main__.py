"""`python -m isocenter`."""


def main() -> None:
    """Run the command line."""
    from .benchmarks.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
