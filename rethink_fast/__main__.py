"""`python -m rethink_fast ...` is `rethink-fast ...`."""

from __future__ import annotations

import sys

from .crash import guarded


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 for a fault, 2 for bad input (one line on stderr), 128 + N after signal N."""

    def run() -> int:
        from .cli.app import run  # imports torch: a broken installation is one line too

        return run(arguments)

    sys.exit(guarded(run))


if __name__ == "__main__":
    main()
