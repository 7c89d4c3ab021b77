"""Tables in databases that may be written, and drawn cases as such tables."""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa
from hypothesis import strategies as st


def run(place, *statements, **options):
    """Run statements in a database that may be written."""
    engine = sa.create_engine(place, poolclass=sa.NullPool, **options)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def fill(place, table):
    """Write a table of plain columns into a database, over the one that is there."""
    kinds = {pa.string(): sa.Text(), pa.float64(): sa.Double(), pa.int64(): sa.BigInteger(), pa.bool_(): sa.Boolean()}
    engine = sa.create_engine(place, poolclass=sa.NullPool)
    made = sa.Table("log", sa.MetaData(), *(sa.Column(field.name, kinds[field.type]) for field in table.schema))
    with engine.begin() as connection:
        made.drop(connection, checkfirst=True)
        made.create(connection)
        # Bound names cannot hold dots.
        values = [{f"p{i}": row[name] for i, name in enumerate(table.column_names)} for row in table.to_pylist()]
        statement = made.insert().values({name: sa.bindparam(f"p{i}") for i, name in enumerate(table.column_names)})
        if values:
            connection.execute(statement, values)
    engine.dispose()


def as_long(table):
    """Put wide rows one under another, a row for each model."""
    shared = [name for name in table.column_names if "." not in name]
    pieces = []
    for model in ("mini", "flagship"):
        own = {name.partition(".")[2]: name for name in table.column_names if name.startswith(f"{model}.")}
        columns = {name: table[name] for name in shared} | {"model": [model] * table.num_rows}
        pieces.append(pa.table(columns | {short: table[name] for short, name in own.items()}))
    return pa.concat_tables(pieces, promote_options="default")


NAMES = st.sampled_from(["en", "fr", "it's", 'a "b"', "%s :x", "語", None])
OUTCOME = st.fixed_dictionaries(
    {
        "answer": st.sampled_from(["a", "A.", "b", "", None]),
        "confidence": st.sampled_from([0.0, 0.29, 0.5, 0.82, 1.0, None]),
        "cost_usd": st.sampled_from([0.25, 1e-9, 0.1, None]),
        "output_tokens": st.sampled_from([0, 1, 2**40, None]),
        "status": st.sampled_from(["ok", "ok", "timeout", "refused", None]),
    }
)
CASE = st.tuples(NAMES, st.sampled_from([1.0, 0.5, None]), st.tuples(OUTCOME, OUTCOME))
TYPES = {"answer": pa.string(), "status": pa.string(), "output_tokens": pa.int64()}


def table_of(cases):
    """Put drawn cases into wide columns."""
    found = {
        "case_id": pa.array([f"case {number}" for number in range(len(cases))]),
        "language": pa.array([language for language, _, _ in cases], pa.string()),
        "weight": pa.array([weight for _, weight, _ in cases], pa.float64()),
    }
    for place, model in enumerate(("mini", "flagship")):
        for name in cases[0][2][place]:
            values = [outcomes[place][name] for _, _, outcomes in cases]
            found[f"{model}.{name}"] = pa.array(values, TYPES.get(name, pa.float64()))
    return pa.table(found)
