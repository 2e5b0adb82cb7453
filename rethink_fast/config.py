"""What a run is: frozen, typed, and complete once `resolve` has filled in what depends on the data set."""

from __future__ import annotations
