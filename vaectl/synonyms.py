"""Words of other libraries and of papers for the names here, so that a hint says what was meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def folded(word: str) -> str:
    """A word without its leading dashes, in lower case, with dashes for underscores, blanks and dots."""
    word = word.strip().lstrip("-").casefold()
    return word.translate({ord(character): "-" for character in "_ ."})


def _by_word(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """``{name: "its other words"}`` -> ``{word: (name, ...)}``, in the order of the names."""
    words: dict[str, tuple[str, ...]] = {}
    for name, others in names.items():
        for word in others.split():
            words[word] = (*words.get(word, ()), name)
    return words


# flag, with its value if the word implies one -> other words
FLAGS = _by_word({
    "--dataset": "dataset-path dataset-name datasets data data-path input inputs input-dir images image-dir "
    "image-folder train-data training-data path d i",
    "--data-dir": "data-root root dataroot data-folder download-dir datadir torchvision-root",
    "--validation-fraction": "val-split val-fraction val-size val-ratio validation-split valid-fraction holdout",
    "--test-fraction": "test-size test-split test-ratio",
    "--image-size": "img-size image-dim img-dim resize size resolution image-res input-size",
    "--grayscale": "gray grey greyscale to-gray",
    "--binarize": "binary binarise dynamic-binarization binarized",
    "--skip-bad": "skip-errors ignore-errors skip-invalid ignore-bad",
    "--label-column": "label labels label-col target target-column y-column class-column",
    "--model": "model-type model-name vae-type recipe m algorithm",
    "--network": "arch architecture net backbone encoder encoder-type decoder network-type",
    "--latent-dim": "z-dim zdim z-dims dim-z z-size latent latents latent-size latent-dims latent-dimension "
    "latent-dimensions n-latent num-latents num-latent-dims nz z code-size code-dim embedding-dim embed-dim bottleneck",
    "--hidden-dims": "hidden-dim hidden hidden-size hidden-sizes hidden-units hidden-layers h-dim h-dims n-hidden "
    "units layers layer-sizes encoder-dims encoder-layers mlp-dims",
    "--width": "channels-base base-channels filters n-filters num-filters num-channels hidden-channels",
    "--depth": "n-layers num-layers n-blocks num-blocks",
    "--activation": "act act-fn activation-function nonlinearity",
    "--likelihood": "loss recon-loss reconstruction-loss decoder-dist output-dist distribution likelihood-type "
    "gene-likelihood reconstruction output-distribution",
    "--codes": "codebook-size num-embeddings n-embeddings n-codes num-codes n-embed",
    "--posterior-scale": "scale-type logvar",
    "--prior": "prior-type p-z prior-name",
    "--objective": "objective-function loss-function criterion bound",
    "--beta": "kl-weight kld-weight kl-coef kl-coeff kl-scale kl-beta beta-kl lambda-kl kl-lambda w-kl kl max-beta",
    "--beta-schedule": "kl-schedule annealing-schedule anneal-schedule kl-anneal-type anneal-type",
    "--warmup-epochs": "kl-anneal kl-annealing kl-anneal-epochs kl-annealing-epochs anneal anneal-epochs "
    "annealing-epochs kl-warmup kl-warmup-epochs n-epochs-kl-warmup warmup warm-up warm-up-epochs beta-warmup",
    "--free-bits": "free-nats lambda-fb kl-min min-kl freebits",
    "--commitment": "commitment-cost commitment-weight commitment-loss beta-commit",
    "--epochs": "n-epochs num-epochs max-epochs max-epoch nepochs epoch e n-epoch num-train-epochs training-epochs",
    "--batch-size": "bs batch batchsize b train-batch-size per-device-train-batch-size minibatch-size",
    "--lr": "learning-rate learningrate learn-rate l step-size stepsize eta adam-lr base-lr",
    "--weight-decay": "wd l2 adam-weight-decay weight-regularization",
    "--grad-clip": "clip clip-grad clip-norm gradient-clip gradient-clip-val gradient-clipping max-grad-norm max-norm "
    "grad-norm clip-grad-norm",
    "--precision bf16": "amp fp16 bf16 float16 bfloat16 half mixed-precision use-amp autocast",
    "--precision": "dtype float-type",
    "--patience": "early-stopping early-stop early-stopping-patience earlystopping es-patience",
    "--on-nonfinite": "nan-policy on-nan detect-anomaly",
    "--seed": "random-seed manual-seed rng-seed random-state rng s",
    "--name": "run-name run-id experiment experiment-name exp-name exp id tag n",
    "--config": "cfg conf config-file settings config-path",
    "--from": "from-run base like copy init",
    "--resume": "continue resume-from resume-from-checkpoint checkpoint ckpt ckpt-path load restart",
    "--dry-run": "dryrun plan preview check summary",
    "--device cuda": "gpu gpus cuda use-gpu use-cuda g",
    "--device cpu": "cpu no-cuda no-gpu disable-cuda",
    "--device mps": "mps metal",
    "--device": "accelerator devices",
    "--num-samples": "n num count samples n-samples nsamples number num-images n-images size",
    "--importance-samples": "iw-samples is-samples iwae-samples n-samples num-samples samples k n n-importance-samples",
    "--points": "n num count samples n-samples num-samples n-points max-points",
    "--per-example": "per-sample scores example-scores per-image values",
    "--threshold": "fpr false-positive-rate contamination cutoff alpha p-value quantile",
    "--anomaly": "anomaly-label anomalies outlier-label positive positive-label pos-label",
    "--maps": "map heatmap heatmaps heat-maps anomaly-maps saliency",
    "--temperature": "temp t tau",
    "--columns": "nrow ncol ncols cols n-cols rows",
    "--reconstruct": "recon reconstruction reconstructions",
    "--interpolate": "interp interpolation interpolations slerp lerp",
    "--mode": "decode-mode",
    "--mode draw": "stochastic sample-pixels",
    "--rows": "row index indices idx ids example examples",
    "--pair": "pairs between ends",
    "--add": "attribute attributes vector direction edit",
    "--draw": "sample stochastic random",
    "--kind": "type plot plot-type",
    "--kind manifold": "manifold grid",
    "--kind traversal": "traversal traverse traversals",
    "--kind scatter": "scatter",
    "--dims": "dim dimensions axes components",
    "--split": "subset partition part set",
    "--split validation": "val valid validation dev",
    "--split train": "train",
    "--checkpoint": "ckpt weights which",
    "--checkpoint last": "last latest",
    "--checkpoint best": "best",
    "--output": "out outfile out-file output-file output-path out-path save save-path save-as dest file filename",
    "--force": "overwrite exist-ok replace clobber yes y",
    "--sort": "sort-by order order-by by",
    "--limit": "n num count max head top number",
    "--all": "everything a full",
    "--group": "by-seed seeds group-by aggregate",
    "--json": "as-json output-json format-json",
    "--quiet": "silent",
    "--progress none": "no-progress no-bar no-progress-bar disable-tqdm",
    "--progress": "progress-bar bar tqdm",
    "--plugin": "plugins custom import",
    # it comes before the command
    "--runs-dir": "output-dir out-dir outdir save-dir log-dir logdir results-dir checkpoint-dir run-dir "
    "default-root-dir experiment-dir exp-dir work-dir workdir",
})  # fmt: skip

# a word for something that has no flag of its own -> the advice
FLAG_ADVICE = (
    dict.fromkeys(
        ("num-workers", "n-workers", "workers", "j"),
        "examples are read by as many threads as the machine has cores; there is no such setting",
    )
    | dict.fromkeys(("optimizer", "optim"), "the optimizer is Adam: --lr, and --weight-decay for AdamW")
    | dict.fromkeys(("max-steps", "steps", "iterations"), "the length of a training is set by --epochs")
    | dict.fromkeys(
        ("scheduler", "lr-scheduler", "lr-schedule"),
        "the learning rate is constant: --lr; the KL's weight has a schedule: --beta-schedule",
    )
    | {
        "dropout": "the networks have no dropout",
        "batch-norm": "the networks have no batch normalisation",
        "format": "the format is that of the suffix of -o; --json prints the result as JSON",
        "tensorboard": "every run has event files: tensorboard --logdir runs",
    }
)

# command line after vaectl -> other words for the command
COMMANDS = _by_word({
    "train": "fit run training start learn",
    "train --resume RUN": "resume continue restart",
    "train --dry-run": "config settings plan data info-data check-data describe-data",
    "eval": "test evaluate evaluation validate val metrics",
    "score": "scores anomaly anomalies detect detection outlier outliers novelty ood flag",
    "sample": "generate gen samples draw",
    "reconstruct": "recon reconstruction autoencode denoise roundtrip",
    "sample RUN --interpolate": "interpolate interpolation",
    "decode": "decoder decodes decoding",
    "edit": "manipulate attribute attributes attribute-vector arithmetic",
    "embed": "encode encoder embedding embeddings transform latents infer predict",
    "plot-latent": "plot visualize visualise viz latent scatter plots plot-latents latent-plot umap tsne pca",
    "plot-latent RUN --kind manifold": "manifold",
    "plot-latent RUN --kind traversal": "traversal traverse traversals",
    "compare": "diff comparison vs compare-runs report",
    "runs": "list ls ps history experiments log logs",
    "runs RUN": "show info status inspect describe cat",
    "selftest": "check doctor verify self-test self-check test-install",
    "--version": "version",
    "--help": "commands usage man",
})  # fmt: skip

# a word for something that is no command -> the advice, in which run1 stands for the run that was named
COMMAND_ADVICE = (
    dict.fromkeys(
        ("rm", "remove", "delete", "del", "prune", "clean"),
        "a run is a folder, and nothing else knows of it: rm -r runs/run1 removes it",
    )
    | dict.fromkeys(
        ("mv", "move", "rename"), "a run is a folder, and its name is its id: mv runs/run1 runs/NAME renames it"
    )
    | dict.fromkeys(("cp", "copy"), "a run is a folder, and may be copied: cp -r runs/run1 runs/NAME")
    | dict.fromkeys(("datasets", "models"), "vaectl train --help lists them")
    | {
        "tensorboard": "every run has event files: tensorboard --logdir runs",
        "download": "a data set is downloaded when it is first used: vaectl train --dataset mnist --dry-run",
        "init": "nothing has to be set up; begin with: vaectl train",
    }
)

# value -> other words; those of several values stand for the first that is possible
VALUES = _by_word({
    # data sets
    "mnist": "digits-mnist torchvision-mnist",
    "fashion-mnist": "fmnist fashion f-mnist fashion-mnist-dataset",
    "kmnist": "kuzushiji kuzushiji-mnist k-mnist",
    "cifar10": "cifar cifar-10",
    # models and objectives
    "beta-vae": "bvae b-vae beta betavae",
    "beta-tcvae": "tcvae tc-vae btcvae b-tcvae beta-tc-vae factor-vae factorvae",
    "capacity-vae": "annealed-vae annealed-beta-vae understanding-beta-vae burgess",
    "control-vae": "controlvae pid-vae",
    "iwae": "iw-vae iwvae importance-weighted",
    "vamp-vae": "vampprior vamp-prior vamp",
    "vq-vae": "vqvae vq vq-vae-ema",
    "fsq-vae": "fsq fsqvae",
    "sigma-vae": "optimal-sigma sigmavae calibrated",
    "elbo": "vae beta-vae vanilla negative-elbo val-elbo best score",
    "tc": "beta-tcvae tcvae total-correlation",
    "kl-target": "control-vae controlvae pid",
    "capacity": "capacity-vae annealed",
    "vae": "vanilla vanilla-vae vanillavae basic base standard autoencoder",
    # anomaly scores
    "bound": "importance importance-bound iw-bound iwae log-likelihood likelihood nll loglik",
    "recon": "reconstruction reconstruction-error recon-error",
    "distance": "mahalanobis mahalanobis-distance latent-distance",
    "regret": "likelihood-regret lr-score",
    # networks and activations
    "conv": "cnn convnet convolutional conv2d dcgan convolution",
    "mlp": "fc dense linear fully-connected feedforward ffn",
    "resnet": "res residual resnet18 resnet50",
    "relu": "leaky-relu leakyrelu lrelu elu selu",
    "silu": "swish",
    "tanh": "sigmoid",
    # distributions
    "bernoulli": "bce binary-cross-entropy binary binary-crossentropy bern ber",
    "continuous-bernoulli": "cb cbernoulli continuous-bce",
    "gaussian": "normal gauss diagonal-gaussian diag-gaussian l2 diagonal",
    "standard": "normal gaussian gauss standard-normal isotropic std-normal",
    "laplace": "l1 mae laplacian",
    "mse": "squared-error l2-loss mean-squared-error",
    "categorical": "softmax cross-entropy ce",
    "discretized-logistic": "logistic dlogistic dmol mol mixture-of-logistics",
    "mixture": "gmm mog gaussian-mixture mixture-of-gaussians",
    "transformer": "pixelcnn autoregressive gpt pixel-cnn",
    "quantized": "vq vector-quantized",
    "log-variance": "logvar log-var exp exponential log-scale",
    # schedules
    "linear": "monotonic anneal annealing ramp linear-warmup",
    "cyclical": "cyclic cycle",
    "cosine": "cos",
    "constant": "none fixed off",
    # splits, weights, kinds
    "validation": "val valid dev eval",
    "train": "training tr",
    "test": "testing",
    "best": "best-model min",
    "last": "latest final newest",
    "time": "duration seconds date started",
    "id": "name run number",
    "scatter": "points scatterplot umap tsne pca t-sne",
    "manifold": "grid",
    "traversal": "traverse traversals walk",
    "draw": "sample stochastic random",
    "dynamic": "stochastic",
    "static": "fixed once threshold",
    "none": "off no false",
    "stop": "raise error fail",
    "rollback": "retry skip",
    # machine
    "bf16": "float16 fp16 amp half bfloat16 mixed bf16-mixed 16-mixed 16",
    "fp32": "float32 float full 32",
    "cuda": "gpu nvidia cuda-gpu",
    "mps": "metal apple",
    "plain": "text log simple",
    "bar": "rich tqdm",
    # data sets that are not here: their letters resemble others, which are not meant
    "": "emnist omniglot celeba imagenet dsprites shapes3d cifar100 stl10 lsun coco caltech101 notmnist",
})  # fmt: skip


def meant(word: str, names: Collection[str], synonyms: Mapping[str, tuple[str, ...]]) -> str | None:
    """The one of ``names`` that a word stands for, with the value that the word implies; None if it is not known.

    Args:
        word: A word that is none of the names.
        names: The names that are possible.
        synonyms: Word -> names, such as ``VALUES``; a name may be followed by a value.

    Returns:
        The name; ``""`` for a word that resembles a name and means something else.
    """
    return next((name for name in synonyms.get(folded(word), ()) if not name or name.split()[0] in names), None)
