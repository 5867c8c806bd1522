"""Uploads in the application's database: tables, statements and transactions."""
