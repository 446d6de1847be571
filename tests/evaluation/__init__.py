"""Tests of ``vaectl.evaluation``."""
