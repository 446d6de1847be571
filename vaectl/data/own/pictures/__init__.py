"""Image files in folders, archives and tables."""
