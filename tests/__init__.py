"""Tests of vaectl."""
