"""The rules of an upload's life; knows no Flask, SQLAlchemy or header names."""
