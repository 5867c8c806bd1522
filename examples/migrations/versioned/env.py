"""What Alembic runs for each command, on the application's database and models."""

from __future__ import annotations

from alembic import context
from flask import current_app


def run() -> None:
    """Migrate, compare or print, as the command wants it."""
    migrate = current_app.extensions["migrate"]
    metadata = migrate.db.metadata
    engine = migrate.db.engine
    if context.is_offline_mode():
        url = engine.url.render_as_string(hide_password=False)
        context.configure(url=url, target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=metadata, **migrate.configure_args
        )
        with context.begin_transaction():
            context.run_migrations()


run()
