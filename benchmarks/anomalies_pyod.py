"""PyOD's VAE and isolation forest on splits in a folder, run by ``benchmarks.anomalies``, maybe by another Python."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.vae import VAE
from sklearn.metrics import roc_auc_score


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    rows: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as split:
            train, test, labels, seed = split["train"], split["test"], split["y"], int(split["seed"])
        row = rows[path.stem] = {}
        for name, method in (("vae", VAE(random_state=seed, verbose=0)), ("iforest", IForest(random_state=seed))):
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                method.fit(train)
                scores = method.decision_function(test).astype(np.float64)
            row[f"pyod_{name}"] = float(roc_auc_score(labels, np.nan_to_num(scores, posinf=1e300)))
            row[f"seconds_pyod_{name}"] = time.perf_counter() - started
    out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
