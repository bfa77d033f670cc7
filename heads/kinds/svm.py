"""Kernel support vector machines: one against one, calibrated pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from headstock.heads.codes import encode_labels, seeded_codes
from headstock.heads.kinds.landmarks import Landmarks, least_squares, linear_machines
from headstock.heads.kinds.strategies import Kernel, Machines
from headstock.heads.solvers.calibration import (
    UNCALIBRATED,
    couple,
    held_out_folds,
    held_out_scores,
    platt,
    softmax,
    temperature,
)
from headstock.heads.solvers.scaling import Blocks
from headstock.heads.solvers.smo import one_against_one, rbf_from_products

__all__ = ["PAIRED", "KernelSVM", "class_pairs", "pair_platt", "poly_svm", "rbf_svm"]

PAIRED = 64
"""Classes up to which each pair has a machine of its own, 2,016 of them. Beyond, each class has one
against all others: a thousand classes would be half a million pairs."""

COMPILED_FROM = 1000
"""Training rows from which the compiled solver is worth its start."""
COMPILED_UPTO = 25_000
"""Training rows up to which it may hold their kernel: 2.5 GB. Beyond, landmarks."""
LANDMARKS = 2048
"""How many there are where nobody says; fewer lose accuracy, more take their square in time."""


def class_pairs(k: int) -> list[tuple[int, int]]:
    """The p = k(k-1)/2 pairs of classes in the order of all pairwise arrays here."""
    return [(i, j) for i in range(k) for j in range(i + 1, k)]


def pair_platt(decisions: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """(p, 2) Platt sigmoids from ``decisions`` (n, p), NaN where not held out, each on its own two
    classes."""
    own = [np.flatnonzero(codes == c) for c in range(k)]
    said, first, lengths = [np.empty(0)], [np.empty(0, dtype=bool)], [0]
    for p, (i, j) in enumerate(class_pairs(k)):
        said += [decisions[own[i], p], decisions[own[j], p]]
        first += [np.ones(len(own[i]), dtype=bool), np.zeros(len(own[j]), dtype=bool)]
        lengths.append(len(own[i]) + len(own[j]))
    return platt(np.concatenate(said), np.concatenate(first), np.cumsum(lengths)[:-1])


def calibrated(decisions: np.ndarray, codes: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """The pairs' sigmoids (p, 2) and the multiplier for ``coupled``, from ``decisions`` (n, p), NaN
    where not held out.

    Each sigmoid doubts a row, and coupling adds up the doubts of the k - 1 pairs a class is in: a
    temperature on the same rows takes that back, and leaves the largest where it is.
    """
    sigmoids = pair_platt(decisions, codes, k)
    scores = np.full((len(decisions), k), np.nan)
    known = np.isfinite(decisions).all(axis=1)
    if known.any():
        scores[known] = np.log(coupled(decisions[known], sigmoids, 1.0, k))
    return sigmoids, temperature(scores, codes)


def coupled(decisions: np.ndarray, sigmoids: np.ndarray, multiplier: float, k: int) -> np.ndarray:
    """(m, k) probabilities of decisions (m, p): p^multiplier of the coupled ones, made to sum to
    1."""
    a, b = sigmoids.T
    return softmax(multiplier * np.log(couple(expit(a * decisions + b), k)), axis=1)


class KernelSVM:
    """k(k-1)/2 two-class machines on one kernel; Platt sigmoids from decisions held out by
    ``inner``; pairwise coupling to class probabilities, and their temperature. Of more than
    ``PAIRED`` classes: one least-squares machine a class against all others, on landmarks, and the
    temperature of their scores.

    ``kernel`` is ``rbf`` (exp(-gamma |x - z|^2)) or ``poly`` ((1 + gamma x.z)^degree) of rows that
    ``Blocks`` scaled; gamma is divided by the number of blocks, so 1 means the same everywhere.
    """

    kind = "kernel-svm"
    wants = frozenset({"inner", "spans"})
    unheld = UNCALIBRATED
    strategy: Machines | None = None

    how_ = ""
    """What is to be said of how the last fit was done."""

    def __init__(
        self,
        kernel: str,
        C: float,
        gamma: float,
        degree: int,
        seed: int,
        landmarks: int | str = "auto",
    ) -> None:
        if landmarks != "auto" and not (isinstance(landmarks, int) and landmarks >= 0):
            raise ValueError(f"landmarks={landmarks} is neither auto nor a count")
        self.landmarks = landmarks
        if C <= 0 or gamma <= 0 or degree < 1:
            raise ValueError(f"C={C}, gamma={gamma} and degree={degree} must be positive")
        self.kernel, self.C, self.gamma, self.degree, self._seed = kernel, C, gamma, degree, seed

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        inner: np.ndarray | None = None,
        spans: Mapping[str, slice] | None = None,
    ) -> KernelSVM:
        self.classes_, codes = encode_labels(y)
        k = len(self.classes_)
        if inner is None:
            inner = seeded_codes(codes, 5, self._seed)

        def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            out = np.full((len(test), k * (k - 1) // 2), np.nan)
            present, local = np.unique(codes[train], return_inverse=True)
            if len(present) > 1:
                self._learn(X[train], local, len(present), spans)
                where = {pair: p for p, pair in enumerate(class_pairs(k))}
                columns = [where[present[i], present[j]] for i, j in class_pairs(len(present))]
                out[:, columns] = self.decisions(X[test])
            return out

        count = self._landmarks(len(X))
        if k > PAIRED:
            return self._fit_rest(X, codes, inner, spans, count or min(LANDMARKS, len(X)))
        if count:
            return self._fit_landmarks(X, codes, inner, spans, count)
        held_out = held_out_scores(scores, inner, k * (k - 1) // 2, held_out_folds(inner, codes))
        self.sigmoids_, self.multiplier_ = calibrated(held_out, codes, k)
        self._learn(X, codes, k, spans)
        return self

    def _fit_landmarks(
        self,
        X: np.ndarray,
        codes: np.ndarray,
        inner: np.ndarray,
        spans: Mapping[str, slice] | None,
        count: int,
    ) -> KernelSVM:
        """``fit`` by features of landmarks, which the machines for the sigmoids share: they hold
        no label, and stand on these rows alone."""
        k = len(self.classes_)
        self.scaler_ = Blocks.of(X, spans)
        found = Landmarks(X, self.scaler_, self._kernel, count, self._seed)

        def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            W, b = linear_machines(found.features, train, codes, k, self.C, self._seed)
            return found.features[test] @ W + b

        held_out = held_out_scores(scores, inner, k * (k - 1) // 2, held_out_folds(inner, codes))
        self.sigmoids_, self.multiplier_ = calibrated(held_out, codes, k)
        everything = np.arange(len(X))
        W, self.bias_ = linear_machines(found.features, everything, codes, k, self.C, self._seed)
        self.vectors_, self.coefficients_ = found.rows, found.coefficients(W)
        self.how_ = f"landmarks: {count:,} of {len(X):,} rows"
        return self

    def _fit_rest(
        self,
        X: np.ndarray,
        codes: np.ndarray,
        inner: np.ndarray,
        spans: Mapping[str, slice] | None,
        count: int,
    ) -> KernelSVM:
        """``fit`` with one machine a class, all of them by one factorisation."""
        k = len(self.classes_)
        self.scaler_ = Blocks.of(X, spans)
        found = Landmarks(X, self.scaler_, self._kernel, count, self._seed)

        def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            W, b = least_squares(found.features[train], codes[train], k, self.C)
            return found.features[test] @ W + b

        held_out = held_out_scores(scores, inner, k, held_out_folds(inner, codes))
        self.sigmoids_, self.multiplier_ = np.empty((0, 2)), temperature(held_out, codes)
        W, self.bias_ = least_squares(found.features, codes, k, self.C)
        self.vectors_, self.coefficients_ = found.rows, found.coefficients(W)
        self.how_ = f"{k:,} classes: one against rest by least squares, {count:,} landmarks"
        return self

    def _landmarks(self, n: int) -> int:
        """How many landmarks stand for n rows; 0 for none."""
        if self.landmarks == "auto":
            return LANDMARKS if n > COMPILED_UPTO else 0
        return min(int(self.landmarks), n)

    def _learn(
        self, X: np.ndarray, codes: np.ndarray, k: int, spans: Mapping[str, slice] | None
    ) -> None:
        self.scaler_ = Blocks.of(X, spans)
        Z = self.scaler_(X)
        if COMPILED_FROM <= len(Z) <= COMPILED_UPTO:
            order = np.argsort(codes, kind="stable")
            Z = np.ascontiguousarray(Z[order])
            starts = np.searchsorted(codes[order], np.arange(k + 1))
            found, self.bias_ = one_against_one(self._own_kernel(Z), starts, self.C)
            used = (found != 0).any(axis=1)
            self.vectors_, self.coefficients_ = Z[used], found[used]
            return
        from sklearn.svm import SVC

        gamma = self.gamma / self.scaler_.blocks
        model = SVC(
            C=self.C, kernel=self.kernel, gamma=gamma, degree=self.degree, coef0=1.0, cache_size=500
        ).fit(Z, codes)
        self.vectors_ = Z[model.support_]
        self.coefficients_, self.bias_ = _by_pair(model, codes[model.support_], k)

    def _own_kernel(self, Z: np.ndarray) -> np.ndarray:
        """(n, n) kernel of the training rows, in place of their products where it can be."""
        if self.kernel == "poly":
            return self._kernel(Z, Z)
        products, squares = Z @ Z.T, np.einsum("ij,ij->i", Z, Z)
        gamma = self.gamma / self.scaler_.blocks
        rbf_from_products(products, squares, squares, gamma, products)
        return products

    def _kernel(self, Z: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """(m, s) float32 kernel of scaled rows against scaled ``vectors``."""
        gamma = np.float32(self.gamma / self.scaler_.blocks)
        products = Z @ vectors.T
        if self.kernel == "poly":
            return (1 + gamma * products) ** self.degree
        own = np.einsum("ij,ij->i", Z, Z)[:, None]
        theirs = np.einsum("ij,ij->i", vectors, vectors)
        return np.exp(-gamma * np.maximum(own + theirs - 2 * products, 0))

    def decisions(self, X: np.ndarray) -> np.ndarray:
        """(m, p) margins, positive for the first class of a pair; or (m, k), one a class."""
        out = np.empty((len(X), len(self.bias_)))
        for start in range(0, len(X), 1024):
            part = slice(start, start + 1024)
            out[part] = (
                self._kernel(self.scaler_(X[part]), self.vectors_) @ self.coefficients_ + self.bias_
            )
        return out

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        said = self.decisions(X)
        if not len(self.sigmoids_):
            return softmax(self.multiplier_ * said, axis=1)
        return coupled(said, self.sigmoids_, self.multiplier_, len(self.classes_))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        names = ("kernel", "C", "gamma", "degree")
        meta = {name: getattr(self, name) for name in names}
        return {**meta, "multiplier": self.multiplier_}, {
            "mean": self.scaler_.mean,
            "scale": self.scaler_.scale,
            "starts": self.scaler_.starts,
            "vectors": self.vectors_,
            "coefficients": self.coefficients_,
            "bias": self.bias_,
            "sigmoids": self.sigmoids_,
        }

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> KernelSVM:
        kernel = "poly" if meta["kernel"] == "poly" else "rbf"
        head = cls(kernel, float(meta["C"]), float(meta["gamma"]), int(meta["degree"]), 0)
        head.classes_ = np.arange(k)
        head.scaler_ = Blocks(arrays["mean"], arrays["scale"], arrays["starts"])
        head.vectors_, head.bias_ = arrays["vectors"], arrays["bias"]
        head.coefficients_, head.sigmoids_ = arrays["coefficients"], arrays["sigmoids"]
        head.multiplier_ = float(meta.get("multiplier", 1.0))
        return head


def _by_pair(model: Any, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """libsvm's packed dual coefficients as (s, p) columns, one a pair, and (p,) intercepts.

    Row j-1 of ``dual_coef_`` holds, for the vectors of class i < j, the pair (i, j); row i holds
    it for the vectors of class j. With two classes scikit-learn turns the sign.
    """
    packed = (
        model.dual_coef_ if not hasattr(model.dual_coef_, "toarray") else model.dual_coef_.toarray()
    )
    out = np.zeros((len(codes), k * (k - 1) // 2), dtype=np.float32)
    for p, (i, j) in enumerate(class_pairs(k)):
        out[codes == i, p] = packed[j - 1, codes == i]
        out[codes == j, p] = packed[i, codes == j]
    sign = -1.0 if k == 2 else 1.0
    return sign * out, sign * np.asarray(model.intercept_, dtype=np.float64)


def rbf_svm(
    seed: int, C: float = 10.0, gamma: float = 1.0, landmarks: int | str = "auto"
) -> KernelSVM:
    """SVM with the kernel exp(-gamma |x - z|^2). C: weight of the loss; gamma: sharpness, where 1
    is scikit-learn's ``scale``; landmarks: how many random rows stand for all (0: the whole
    kernel), ``auto`` being 2,048 from 25,001 training rows."""
    return _shared(KernelSVM("rbf", C, gamma, 1, seed, landmarks), 0)


def poly_svm(
    seed: int,
    C: float = 10.0,
    gamma: float = 1.0,
    degree: int = 3,
    landmarks: int | str = "auto",
) -> KernelSVM:
    """SVM with the kernel (1 + gamma x.z)^degree; landmarks as in ``rbf-svm``."""
    return _shared(KernelSVM("poly", C, gamma, degree, seed, landmarks), degree)


def _shared(head: KernelSVM, degree: int) -> KernelSVM:
    if head.landmarks in ("auto", 0):
        kernel = Kernel(float(head.gamma), degree)
        upto = COMPILED_UPTO if head.landmarks == "auto" else None
        head.strategy = Machines(float(head.C), kernel, upto)
    return head
