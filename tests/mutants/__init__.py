"""Mutation run of the mathematics, see ``__main__``."""
