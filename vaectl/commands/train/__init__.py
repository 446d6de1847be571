"""``vaectl train``."""
