"""``vaectl sample``: samples of the prior, reconstructions and interpolations, as they are decoded."""
