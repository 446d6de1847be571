"""What a model reaches: estimators, latent spaces, and the doctor."""
