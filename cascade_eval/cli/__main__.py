"""Run the command line as ``python -m cascade_eval.cli``."""

from cascade_eval.cli import main

main()
