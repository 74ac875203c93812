"""Turns a plan into reality: observes, then acts."""
