"""Whether the answer is JSON of the right shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_eval import answers
from cascade_eval.signals.definition import Definition, Option, Options
from cascade_eval.traffic.batch import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_eval.traffic.batch import Batch

_LARGEST = 1_000_000


def compute(batch: Batch, model: str, options: Options) -> NDArray[np.float64]:
    """Return 1 where the answer is JSON that the schema accepts, else 0; no answer is no signal.

    Parameters
    ----------
    batch
        Cases with `answer`: JSON text, or nested values.
    model
        The gated model.
    options
        ``schema``, a JSON Schema written out, or ``file``, the path of one. References to other documents are not
        followed; patterns run in linear time and know no look-around.

    Returns
    -------
    ndarray of shape (cases,)

    Examples
    --------
    >>> import pyarrow as pa
    >>> from cascade_eval.traffic.batch import Batch, Field
    >>> said = pa.array(['{"total": 3}', '{"total": "three"}', "three", None])
    >>> schema = {"type": "object", "properties": {"total": {"type": "number"}}}
    >>> compute(Batch(4, {Field("mini", "answer"): said}), "mini", {"schema": schema, "file": None})
    array([ 1.,  0.,  0., nan])
    """
    column = answers.coded(batch, model)
    validator = _validator(_schema(options))
    return answers.spread(column, [float(_accepts(validator, text)) for text in column.values])


def _accepts(validator: Any, text: str) -> bool:
    readable, document = answers.parse_json(text)
    try:
        return readable and bool(validator.is_valid(document))
    except (ValueError, RecursionError):  # deeper or larger than the validator goes
        return False


def _schema(options: Options) -> Any:
    if options["schema"] is not None:
        return options["schema"]
    path = Path(options["file"])
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"'{path}' is larger than 1 MB")
    return json.loads(path.read_text(encoding="utf-8"))


def _validator(schema: Any) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions())


def _refuse(uri: str) -> Any:
    raise ValueError(f"references to other documents are not followed: {uri}")


def _problems(options: Options) -> list[str]:
    if (options["schema"] is None) == (options["file"] is None):
        return ["write either schema, a JSON Schema, or file, the path of one"]
    try:
        _validator(_schema(options))
    except OSError as error:
        return [f"'{options['file']}' cannot be read: {error.strerror}"]
    except ValueError as error:
        return [f"not a JSON Schema that can be used: {str(error).splitlines()[0]}"]
    return []


def _columns(model: str, _options: Options) -> frozenset[Field]:
    return frozenset({Field(model, "answer")})


SIGNAL = Definition(
    name="schema",
    compute=compute,
    columns=_columns,
    help="1 where the answer is JSON that a schema accepts, else 0.",
    cost="Nothing.",
    source="JSON Schema, drafts 4 to 2020-12.",
    options={
        "schema": Option("A JSON Schema, written out.", kind="mapping"),
        "file": Option("The path of a JSON Schema."),
    },
    problems=_problems,
)
