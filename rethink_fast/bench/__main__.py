"""`python -m rethink_fast.bench DATASET ...` is `rethink-fast bench DATASET ...`."""

import sys

from ..__main__ import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
