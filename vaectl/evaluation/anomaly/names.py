"""The anomaly scores by name, without torch."""

from __future__ import annotations

# name -> its short description; a higher score is more unusual
SCORES = {
    "elbo": "minus the bound: badly reconstructed, or far in the latent space",
    "bound": "minus the importance-weighted bound, nearer to minus the log-likelihood than elbo",
    "recon": "the reconstruction term alone",
    "kl": "the distance of the posterior from the prior alone",
    "distance": "Mahalanobis distance of the posterior mean from the training set's posteriors",
    "regret": "the gain in the bound from fitting the posterior to the example",
}
# the score without --score, see docs/anomalies.md
DEFAULT = "elbo"
