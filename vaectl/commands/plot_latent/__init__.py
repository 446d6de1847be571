"""``vaectl plot-latent``: latents, the decoded manifold, and walks along single dimensions, as figures."""
