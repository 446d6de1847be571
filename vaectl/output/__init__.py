"""Pictures, grids and tables, and how they are written."""
