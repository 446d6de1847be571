"""``vaectl compare``."""
