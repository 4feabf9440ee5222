"""Render the tables from the records, so a column is declared once; migrate older versions."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from typing import Any

from warehouse.db.views import VIEWS
from warehouse.records import RECORDS, Record

VERSION = 10
"""What this code writes. A higher number in a file means that a newer version wrote it."""

MIGRATIONS: dict[int, str] = {
    2: """
ALTER TABLE calls ADD COLUMN tries BIGINT DEFAULT 1;
ALTER TABLE calls ADD COLUMN reasoning VARCHAR;
ALTER TABLE calls ADD COLUMN logprobs JSON;
""",
    3: "-- the views alone",
    4: """
ALTER TABLE calls ADD COLUMN stage VARCHAR;
ALTER TABLE scores ADD COLUMN details JSON;
ALTER TABLE choices ADD COLUMN details JSON;
CREATE TABLE measurements (
  measurement_id VARCHAR NOT NULL,
  scorer VARCHAR NOT NULL,
  version VARCHAR NOT NULL,
  model VARCHAR NOT NULL,
  options JSON NOT NULL,
  dataset VARCHAR NOT NULL,
  rows BIGINT NOT NULL,
  figures JSON NOT NULL,
  note VARCHAR,
  created_at TIMESTAMPTZ NOT NULL
);
""",
    5: """
ALTER TABLE answers ADD COLUMN details JSON;
CREATE TABLE entries (
  run_id VARCHAR NOT NULL,
  benchmark VARCHAR NOT NULL,
  contestant VARCHAR NOT NULL,
  answer_id VARCHAR NOT NULL
);
""",
    6: """
ALTER TABLE entries RENAME TO run_answers;
UPDATE calls SET stage = 'evaluate' WHERE stage = 'judge';
UPDATE failures SET stage = CASE stage WHEN 'fit' THEN 'train' ELSE 'evaluate' END
WHERE stage IN ('fit', 'judge');
UPDATE runs SET summary = json_merge_patch(summary, json_object('verb',
  CASE json_extract_string(summary, '$.verb')
    WHEN 'fit' THEN 'train' WHEN 'judge' THEN 'evaluate' ELSE 'train --audit' END))
WHERE json_extract_string(summary, '$.verb') IN ('fit', 'judge', 'fit --audit');
UPDATE runs SET summary = json_merge_patch(summary, json_object('seconds', json_object(
  'train', json_extract(summary, '$.seconds.fit'), 'fit', NULL,
  'evaluate', json_extract(summary, '$.seconds.judge'), 'judge', NULL)))
WHERE json_exists(summary, '$.seconds.fit') OR json_exists(summary, '$.seconds.judge');
UPDATE students SET base = substr(base, 1 + length(regexp_replace(path, 'students/[^/]+$', '')))
WHERE regexp_matches(path, '/students/[^/]+$')
  AND starts_with(base, regexp_replace(path, 'students/[^/]+$', ''));
UPDATE students SET path = 'students/' || regexp_extract(path, '[^/]+$');
UPDATE runs SET summary = json_merge_patch(summary, json_object('student_path',
  regexp_extract(json_extract_string(summary, '$.student_path'), 'students/[^/]+$')))
WHERE regexp_matches(json_extract_string(summary, '$.student_path'), '/students/[^/]+$');
UPDATE runs SET summary = json_merge_patch(summary, json_object('report_path',
  regexp_extract(json_extract_string(summary, '$.report_path'), 'runs/[^/]+/[^/]+$')))
WHERE regexp_matches(json_extract_string(summary, '$.report_path'), '/runs/[^/]+/[^/]+$');
UPDATE measurements SET figures = json_merge_patch(figures, json_object(
  'higher_is_better', json_extract_string(figures, '$.good') = 'high', 'good', NULL));
CREATE TABLE audit_scores (
  score_id VARCHAR NOT NULL,
  sample_id VARCHAR NOT NULL,
  scorer VARCHAR NOT NULL,
  version VARCHAR NOT NULL,
  model VARCHAR NOT NULL,
  options JSON NOT NULL,
  value DOUBLE,
  why VARCHAR,
  details JSON
);
INSERT INTO audit_scores BY NAME
SELECT * FROM scores WHERE sample_id NOT IN (SELECT sample_id FROM samples);
DELETE FROM scores WHERE sample_id NOT IN (SELECT sample_id FROM samples);
""",
    7: "-- the views alone",
    8: """
ALTER TABLE calls ADD COLUMN messages JSON;
ALTER TABLE samples ADD COLUMN facts JSON;
CREATE TABLE seed_runs (
  seed_run_id VARCHAR NOT NULL,
  recipe VARCHAR NOT NULL,
  recipe_version VARCHAR NOT NULL,
  prompt_id VARCHAR NOT NULL,
  call_ids JSON NOT NULL,
  run_id VARCHAR NOT NULL
);
CREATE TABLE rounds (
  round_id VARCHAR NOT NULL,
  recipe VARCHAR NOT NULL,
  number BIGINT NOT NULL,
  seeds BIGINT NOT NULL,
  missing JSON NOT NULL,
  run_id VARCHAR NOT NULL
);
""",
    9: """
CREATE TABLE sample_lists (
  list_id VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  facts JSON NOT NULL,
  sample_ids JSON NOT NULL
);
""",
    10: """
DELETE FROM sample_lists;
ALTER TABLE sample_lists DROP COLUMN sample_ids;
CREATE TABLE listed_samples (
  list_id VARCHAR NOT NULL,
  place BIGINT NOT NULL,
  sample_id VARCHAR NOT NULL
);
CREATE TABLE promotions (
  promotion_id VARCHAR NOT NULL,
  plan_name VARCHAR NOT NULL,
  student_id VARCHAR NOT NULL,
  before VARCHAR,
  how VARCHAR NOT NULL,
  run_id VARCHAR,
  created_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE gate_inputs (
  input_id VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  content JSON NOT NULL
);
""",
}
"""SQL that migrates version n - 1 to n, by n; views are recreated afterwards."""

_SQL = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", datetime: "TIMESTAMPTZ"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its name, SQL type, whether it may be NULL, and whether it holds JSON."""

    name: str
    sql: str
    nullable: bool
    is_json: bool


def columns(record: type[Record]) -> tuple[Column, ...]:
    """The columns of a record's table, in the order of its fields."""
    hints = typing.get_type_hints(record)
    fields: Any = dataclasses.fields(typing.cast(Any, record))
    return tuple(_column(field.name, hints[field.name]) for field in fields)


def _column(name: str, hint: Any) -> Column:
    nullable = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if nullable:
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return Column(name, _SQL.get(hint, "JSON"), nullable, hint not in _SQL)


def ddl() -> str:
    """CREATE statements of all tables and views."""
    parts = ["CREATE TABLE schema_version (version INTEGER NOT NULL);"]
    for record in RECORDS:
        lines = ",\n".join(
            f"  {column.name} {column.sql}{'' if column.nullable else ' NOT NULL'}"
            for column in columns(record)
        )
        parts.append(f"CREATE TABLE {record.TABLE} (\n{lines}\n);")
    return "\n\n".join([*parts, views()]) + "\n"


def views() -> str:
    """CREATE OR REPLACE statements of the views."""
    return "\n\n".join(
        f"CREATE OR REPLACE VIEW {name} AS\n{query.strip()};" for name, query in VIEWS.items()
    )
