"""What fits: jobs on nodes as schedulers place them, and nodes within limits."""
