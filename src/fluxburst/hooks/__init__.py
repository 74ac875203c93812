"""Finds, calls and guards packages."""
