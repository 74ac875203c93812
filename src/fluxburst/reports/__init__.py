"""Read-only reports: status, timeline, costs, doctor."""
