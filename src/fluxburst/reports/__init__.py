"""Answers that only read: status, timeline, costs, doctor."""
