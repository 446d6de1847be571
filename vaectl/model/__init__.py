"""The parts of a model, their families, and how a spec becomes a model."""
