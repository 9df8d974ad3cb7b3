"""What the migrations make of an empty SQLite ledger, as SQL: `python -m aigateway_usage.snapshot` writes it.

A new ledger is made from that file (see `migrate`), which spares its first start Alembic: a tenth of a second and
eleven megabytes that stay. To be written anew after every new migration; a test says when it was forgotten.
"""

from __future__ import annotations

from sqlalchemy import create_engine

from aigateway_usage import migrate


def made() -> str:
    """The statements, in the order in which they are run."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        migrate.upgrade(connection)
        connection.exec_driver_sql("UPDATE projects SET created_at_us = 0")
        raw = connection.connection.dbapi_connection
        if raw is None:
            raise AssertionError("a connection that is open has one of the driver")
        statements = [line for line in raw.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"}]
    engine.dispose()
    return migrate.BETWEEN.join(statements) + "\n"


if __name__ == "__main__":
    migrate.NEW.write_text(made())
