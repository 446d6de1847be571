"""Data sets: their types, how they are loaded, and the report about them."""
