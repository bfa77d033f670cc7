"""What `resnext_nano` is and how it is trained: every choice that shapes its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

ARCHITECTURE = "resnext50_32x4d"
MODEL_ARGS = {
    "layers": [2, 3, 3, 2],
    "channels": [32, 64, 96, 128],
    "cardinality": 8,
    "base_width": 16,
    "stem_type": "deep",
    "stem_width": 16,
    "avg_down": True,
}
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SIZE = 64


@dataclass(frozen=True)
class Settings:
    """Everything that shapes the weights besides the pictures, the teacher and the machine."""

    seed: int = 8
    stride: int = 16  # pixels a cell of the last map: 4x4 cells at 64 pixels
    epochs: int = 20
    batch: int = 128
    workers: int = 2  # batches in work at a time; each steps on a slightly stale gradient
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 1.0  # epochs
    small_size: int = 48  # pixels in the early epochs: a third less work
    small_share: float = 0.4  # share of the epochs trained at small_size
    smoothing: float = 0.1
    mix: float = 0.3  # share of batches mixed, half of them by mixup and half by cutmix
    ema: float = 0.999
    views: int = 3  # teacher views a picture; view 0 is the whole picture
    crop_area: tuple[float, float] = (0.35, 1.0)
    teacher_size: int = 160  # pixels; the best of 96, 128, 160, 192 on validation pictures
    temperature: float = 2.0
    label_weight: float = 1.0
    logit_weight: float = 0.15  # low: the teacher tells 42 % of such small pictures, too surely
    feature_weight: float = 8.0
    gray: float = 0.2  # share of pictures made grey, two-toned, inverted, blurred: so that
    two_tone: float = 0.1  # strokes on plain ground are not foreign to it
    invert: float = 0.1
    blur: float = 0.1
    jitter: float = 0.3  # brightness and contrast, relative
    glyphs: int = 12  # drawn letters in a batch, told apart by a layer that is thrown away
    glyph_classes: int = 100
    glyph_weight: float = 0.25
    glyph_start: int = 9  # first epoch (from 0) with them: probes showed digits standing still
    coarse: float = 0.5  # share of the letters seen through 8 pixels a side
    coarse_start: int = 13
    duplicate: float = 0.95  # correlation from which two pictures count as one


# The second training, from the weights of the first: twice the cells in the last two stages, more
# weight on the teacher's features, less that hides the picture.
SECOND = replace(
    Settings(),
    stride=8,
    epochs=9,
    lr=1.2e-3,
    warmup=0.3,
    small_share=0.34,
    mix=0.15,
    feature_weight=12.0,
    gray=0.1,
    two_tone=0.06,
    invert=0.06,
    blur=0.06,
    glyph_start=0,
    coarse_start=0,
)
