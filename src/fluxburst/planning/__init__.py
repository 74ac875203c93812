"""Jobs to bursts: which job is assigned to which plugin, and why. It changes nothing."""
