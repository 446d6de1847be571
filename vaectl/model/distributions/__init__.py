"""Distributions that torch lacks or computes inexactly."""
