"""Logs of other tools, as traffic: one file each, streaming, nothing dropped silently."""

from cascade_eval.importers.calls import Aside, Call
from cascade_eval.importers.catalogue import find, names
from cascade_eval.importers.definition import Importer, Reason, Report
from cascade_eval.importers.reading import Imported, open, read  # noqa: A004  importers.open, as traffic.open

__all__ = ["Aside", "Call", "Imported", "Importer", "Reason", "Report", "find", "names", "open", "read"]
