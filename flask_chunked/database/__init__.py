"""The uploads in the application's database: tables, statements, transactions."""
