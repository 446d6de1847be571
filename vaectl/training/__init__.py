"""Training: the step, the state, the loop, events and their listeners."""
