"""Measures real servers beside one another: ``./run bench``."""
