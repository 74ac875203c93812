"""fluxburst into node groups of Amazon EKS clusters."""
