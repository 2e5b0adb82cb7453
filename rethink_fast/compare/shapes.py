"""The shapes of the files that are compared, as schema.check takes them."""

from __future__ import annotations

from typing import Any

from ..bench.record import AMOUNT, ENVIRONMENT_SHAPE, RUN_SHAPE
from ..schema import Each, Maybe

_SAMPLES = [AMOUNT]

SHAPES: dict[str, Any] = {
    "run": RUN_SHAPE,
    "seeds": {"runs": [RUN_SHAPE]},
    "gpu-check": {
        "gpu": str,
        "date": str,
        "contract": int,
        "condition_before": {"driver": Maybe(str)},
        "versions": Each(Maybe(str)),
        "rows": [
            {
                "case": str,
                "microseconds": Maybe(_SAMPLES),
                "samples": Maybe(_SAMPLES),
                "share_of_copy": Maybe(AMOUNT),
            }
        ],
        "engine": Maybe(
            {
                "runs": [
                    {"case": str, **dict.fromkeys(("seconds", "images_per_second", "share_of_matrix"), Maybe(AMOUNT))}
                ]
            }
        ),
    },
    "benchmarks": {
        "machine_info": ENVIRONMENT_SHAPE,
        "datetime": str,
        "benchmarks": [
            {
                "name": str,
                "stats": {"median": AMOUNT, "data": Maybe(_SAMPLES)},
                "extra_info": {
                    "baseline": Maybe(str),
                    **dict.fromkeys(("times_as_fast", "share_of_copy", "share_of_matrix"), Maybe(_SAMPLES)),
                },
            }
        ],
    },
}
