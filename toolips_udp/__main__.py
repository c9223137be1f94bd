"""`python -m toolips_udp`: the command line. Top floor."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
