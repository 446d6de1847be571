"""Tests of ``vaectl.config``."""
