"""Measurements of a trained model: estimators, the latent space, and the doctor."""
