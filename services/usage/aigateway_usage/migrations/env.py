"""Alembic's environment: runs on the connection that `migrate` passes, inside that connection's transaction."""

from __future__ import annotations

from alembic import context

from aigateway_usage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
