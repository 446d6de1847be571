"""Tests of ``vaectl.system``."""
