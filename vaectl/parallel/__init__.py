"""Training in several processes: shares of a batch, sums over all, and words between them."""
