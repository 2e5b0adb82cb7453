"""Measures of generalization for a trained network, each with its equation, its source and how much it says.

measurement.py   what every measure returns: value, bound, verdict, error, reference
network.py       what they read of a network: its layers, with batch norm folded into them
norms.py         norms of layers as linear maps, and margins
finished.py      a finished run: its network, its first weights, its data        open_run
suite.py         the measures of a run, and what differs between two runs         measure_run, compare_runs
view.py          the table, and the section of a report

Every other file is one measure, and its function serves any network.
"""

from __future__ import annotations

from .coherence import coherence
from .golowich import golowich
from .held_out import held_out
from .measurement import Measurement, Unreadable
from .neyshabur import neyshabur
from .ntk_complexity import ntk_complexity
from .pac_bayes import pac_bayes
from .sharpness import sharpness
from .spectral_complexity import spectral_complexity
from .speed import speed
from .vc_dimension import vc_dimension

__all__ = [
    "Measurement",
    "Unreadable",
    "coherence",
    "golowich",
    "held_out",
    "neyshabur",
    "ntk_complexity",
    "pac_bayes",
    "sharpness",
    "spectral_complexity",
    "speed",
    "vc_dimension",
]
