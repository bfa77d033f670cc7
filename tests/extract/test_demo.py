"""The demo's data: real pictures, and tones that say their digit to who listens well."""

import csv

import numpy as np
from PIL import Image
from soundfile import read

from headstock.extract.demo import keypad_tone, write_demo


def _power(tone, frequency, rate=8000):
    time = np.arange(len(tone)) / rate
    return abs(np.exp(-2j * np.pi * frequency * time) @ tone) ** 2


def test_a_tone_holds_its_two_frequencies():
    rng = np.random.default_rng(0)
    low, high = (697, 770, 852, 941), (1209, 1336, 1477)
    right = 0
    for digit in range(10):
        for _ in range(5):
            tone = keypad_tone(digit, rng)
            row = int(np.argmax([_power(tone, f) for f in low]))
            column = int(np.argmax([_power(tone, f) for f in high]))
            right += (3 * row + column + 1 if row < 3 else 0) == digit
    assert right >= 45  # a matched filter hears nearly all; MFCCs must do with less


def test_files_and_table(tmp_path):
    index = write_demo(tmp_path)
    rows = list(csv.DictReader(index.open()))
    assert len(rows) == 1797
    assert sum(row["split"] == "test" for row in rows) == 360
    picture = np.asarray(Image.open(tmp_path / rows[0]["image"]))
    assert picture.shape == (64, 64)
    assert picture.max() > 200
    sound, rate = read(tmp_path / rows[0]["audio"])
    assert (rate, len(sound)) == (8000, 3200)
    before = index.stat().st_mtime_ns
    assert write_demo(tmp_path).stat().st_mtime_ns == before
