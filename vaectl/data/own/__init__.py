"""A person's own data: folders of images, arrays and tables."""
