"""The list of rows whose labels a network saw."""

import hashlib

import numpy as np
import pytest

from headstock.store.seen import Seen, keys_of


def digests(n: int, start: int = 0) -> np.ndarray:
    raw = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(start, start + n))
    return np.frombuffer(raw, np.uint8).reshape(n, 32)


def test_a_network_of_all_rows_saw_them_and_no_others():
    seen = Seen.of(digests(10))
    assert seen.saw(digests(10)).all()
    assert not seen.saw(digests(10, start=10)).any()
    assert (seen.fold_of(digests(12)) == [255] * 10 + [-1] * 2).all()


def test_a_network_of_a_fold_did_not_see_its_own_rows():
    fold = np.arange(10) % 3
    seen = Seen.of(digests(10), fold, own=1)
    assert (seen.saw(digests(10)) == (fold != 1)).all()
    assert (seen.fold_of(digests(10)) == fold).all()
    assert not seen.saw(digests(5, start=50)).any()


def test_alike_rows_are_one():
    twice = np.concatenate([digests(4), digests(4)])
    assert len(Seen.of(twice).keys) == 4
    assert Seen.of(twice).digest == Seen.of(digests(4)).digest


def test_it_comes_back_from_json_and_no_change_goes_unnoticed():
    seen = Seen.of(digests(10), np.arange(10) % 2, own=0)
    body = seen.to_json()
    again = Seen.from_json(body)
    assert (again.saw(digests(10)) == seen.saw(digests(10))).all()
    assert again.summary() == seen.summary() == {k: body[k] for k in seen.summary()}
    other = Seen.of(digests(10, start=1), np.arange(10) % 2).to_json()
    for change in (
        {"seen": other["seen"]}, {"rows": 9}, {"seen": "!"}, {"labels": "0" * 64}, {"fold": "x"},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Seen.from_json({**body, **change})
    with pytest.raises(ValueError):
        Seen.from_json({})


def test_keys_are_the_beginning_of_the_digest():
    assert keys_of(digests(1))[0] == int.from_bytes(hashlib.sha256(b"0").digest()[:8], "big")
