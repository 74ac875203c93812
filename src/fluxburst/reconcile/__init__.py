"""From a plan to reality: it observes, then acts."""
