"""`python -m toolips_udp.messages`: the same as `toolips-udp messages`."""


def main() -> int:
    """The command line, in which `messages` is said already."""
    import sys

    from ..cli import main as command_line

    return command_line(["messages", *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
