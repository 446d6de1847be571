"""Tests of ``vaectl.model``."""
