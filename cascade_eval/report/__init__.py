"""What a run found, for people: HTML, Markdown, terminal; one view feeds them all.

Nothing is imported before it is used: the plugin needs the terminal alone. (And no `annotations` from the future: that is
a module here.)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_eval.report import html, markdown, terminal

__all__ = ["html", "markdown", "terminal"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
