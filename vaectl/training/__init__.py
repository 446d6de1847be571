"""Training: the step, the state, the loop, and TensorBoard."""
