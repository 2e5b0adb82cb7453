"""Measures of generalization for a trained network, each with its equation, its source and how much it says.

measurement.py   what every measure returns: value, bound, verdict, error, reference
network.py       what they read of a network: its layers, with batch norm folded into them
norms.py         norms of layers as linear maps, and margins
finished.py      a finished run: its network, its first weights, its data        open_run
suite.py         the measures of a run that take passes alone                     measure_run
training.py      how networks are trained for the others: as a run was            engine
trained_suite.py the measures of a run that train                                 measure_by_training
against.py       two runs beside each other                                       compare_reports
run_table.py     a CSV file of runs: hyper-parameters, measures, gap               read_run_table
evaluate.py      which measure predicts the gap over a table of runs              evaluate
evaluate_view.py its table
view.py          the table, and the section of a report

Every other file is one measure, and its function serves any network.
"""

from __future__ import annotations

from .coherence import coherence
from .disagreement import disagreement
from .finished import open_run
from .golowich import golowich
from .held_out import held_out
from .measurement import Measurement, Unreadable
from .neyshabur import neyshabur
from .ntk_complexity import ntk_complexity
from .pac_bayes import pac_bayes
from .rademacher import rademacher
from .ratt import ratt
from .rrm import rrm
from .sharpness import sharpness
from .spectral_complexity import spectral_complexity
from .speed import speed
from .stability import stability
from .suite import measure_run
from .vc_dimension import vc_dimension

__all__ = [
    "Measurement",
    "Unreadable",
    "coherence",
    "disagreement",
    "golowich",
    "held_out",
    "measure_run",
    "neyshabur",
    "ntk_complexity",
    "open_run",
    "pac_bayes",
    "rademacher",
    "ratt",
    "rrm",
    "sharpness",
    "spectral_complexity",
    "speed",
    "stability",
    "vc_dimension",
]
