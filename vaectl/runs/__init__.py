"""Run folders: what is kept, found, resumed and compared."""
