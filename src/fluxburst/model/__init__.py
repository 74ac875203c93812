"""Plain data without I/O: jobs, jobspecs, nodes, bursts, constraints, plans."""
