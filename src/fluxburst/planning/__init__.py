"""Turns jobs into bursts: assigns each job to a plugin, with reasons. Changes nothing."""
