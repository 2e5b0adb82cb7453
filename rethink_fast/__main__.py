"""`python -m rethink_fast ...` is `rethink-fast ...`."""

from .bench.cli import main

if __name__ == "__main__":
    main()
