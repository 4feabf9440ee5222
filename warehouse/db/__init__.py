"""Store records in DuckDB: schema, views, spool and run lock."""
