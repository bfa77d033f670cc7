"""AutoGluon on the concatenation: PYTHON bench/heads_autogluon.py ROWS.npz SECONDS, in an
environment of its own (``pip install "autogluon.tabular[lightgbm,xgboost]"``)."""

import json
import resource
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor

if __name__ == "__main__":
    held = np.load(sys.argv[1])
    names = [f"c{i}" for i in range(held["X"].shape[1])]
    table = pd.DataFrame(held["X"], columns=names).assign(label=held["y"])
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor("label", path=folder, verbosity=0, eval_metric="log_loss")
        predictor.fit(table, time_limit=float(sys.argv[2]), presets="medium_quality")
        proba = predictor.predict_proba(pd.DataFrame(held["T"], columns=names)).to_numpy()
    own = np.clip(proba[np.arange(len(proba)), held["t"]], 1e-7, 1)
    line = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "test": {
            "accuracy": float((proba.argmax(axis=1) == held["t"]).mean()),
            "log_loss": float(-np.log(own).mean()),
        },
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"systems": {"AutoGluon": line}, "peak_gb": peak}))
