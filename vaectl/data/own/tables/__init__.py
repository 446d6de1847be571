"""Tables: the roles of columns, and readers of text, Parquet, Arrow and annotated matrices."""
