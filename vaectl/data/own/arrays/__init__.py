"""Arrays: files of every format as examples and labels by part."""
