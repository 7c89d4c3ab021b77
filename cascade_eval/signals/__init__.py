"""Signals: what a gate looks at, as one pure function from columns to one number per case.

A built-in is one file of this package with a `Definition` called ``SIGNAL``. Other packages add theirs through the
entry-point group ``cascade_eval.signals``. NaN means that there is no signal: the case escalates.

How a name in a gate is understood: `recorded` with the option ``column`` is that recorded column; a built-in or
installed signal goes next; every other name is a recorded column of the model.
"""

from __future__ import annotations

from cascade_eval.signals.catalogue import calls, check, compute, find, names, needs, surer
from cascade_eval.signals.definition import Call, Definition, Option

__all__ = ["Call", "Definition", "Option", "calls", "check", "compute", "find", "names", "needs", "surer"]
