"""`run.sh` in Python: the competition from the two CSVs and the pictures to the submission.

    python scenes.py FOLDER [BACKBONE]

It goes on where it was: nothing that is done is done again.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from headstock.extract.adapt import Settings, adapt
from headstock.extract.job import extract_like, extract_manifest
from headstock.heads import Evaluation, evaluate, fit, make_folds
from headstock.store import FeatureStore, Manifest

HERE = Path(__file__).parent


def table(file: str, label: str | None = "CLASS") -> Manifest:
    """A CSV of the competition; the one to predict has no labels."""
    cols = {"image": "IMAGE"} | ({"label": label} if label else {})
    return Manifest.read(file, cols=cols, columns=["mfcc_*"], roots={"image": "images"})


def compare(store: FeatureStore, config: str) -> Evaluation:
    """What a TOML file of `headstock evaluate` asks for."""
    said = tomllib.loads((HERE / config).read_text("utf-8"))
    options: dict[str, dict[str, object]] = {}
    for word in said.get("set", []):
        key, _, value = word.partition("=")
        head, _, name = key.rpartition(".")
        options.setdefault(head, {})[name] = value
    return evaluate(
        store, said["head"], said["on"], said["fusion"],
        options=options, tune=said.get("tune", ()),
    )  # fmt: skip


def main(folder: str, backbone: str = "headstock:resnext_nano") -> None:
    os.chdir(folder)
    train, test = table("train.csv"), table("test.csv", label=None)
    sound = {"columns": ["mfcc_*"], "column_sets": ["audio"]}
    extract_manifest(train, "scenes.h5", image=[backbone], **sound)
    with FeatureStore.open("scenes.h5") as store:
        frozen = compare(store, "frozen.toml")
    print(frozen.text())

    scratch = Settings(from_scratch=True, epochs=15, lr=0.002)
    for name, what, settings in (("tuned", backbone, Settings()), ("cnn4", "cnn4", scratch)):
        weights = f"{name}.safetensors"
        print(
            adapt(
                train.items, weights, what, settings=settings, folds=frozen.folds, divide=make_folds
            ).text()
        )
        extract_manifest(train, "scenes.h5", image=[f"{name}="], weights=weights)

    with FeatureStore.open("scenes.h5") as store:
        whole = compare(store, "evaluate.toml")
        model = fit(
            store,
            on="tuned+audio",
            fusion="gated",
            heads=["logistic", "rbf-svm"],
            folds=frozen.folds,
        )
    whole.save("runs/all")
    print(whole.text())
    model.save("scenes.headstock")
    with extract_like(test, model.recipes, provenance=model.provenance) as (store, _):
        answers = model.predict(store)
    answers.to_csv("predictions.csv")
    answers.submission("submission.csv", "Id,CLASS")


if __name__ == "__main__":
    main(*sys.argv[1:])
