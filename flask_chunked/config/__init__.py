"""Keys of ``app.config``: read once, checked, explained."""
