"""The life of an upload: rules and order, without Flask, SQLAlchemy or header names."""
