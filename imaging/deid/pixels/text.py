"""Find burned-in text in a frame: a neural detector of text lines, and a reader that confirms each of them.

Both networks are those of the ``rapidocr`` wheel (PP-OCR, Apache-2.0), run by onnxruntime; the package itself is
never imported, since it may download models and writes logs.  Made for the parser's sandbox: one thread, no
file is written, nothing is loaded before the first frame.  Needs the extra ``text``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.pixels.boxes import Box, merged

Picture = NDArray[np.float32]

_TILE_PX, _OVERLAP_PX = 1024, 128
_ENLARGE_BELOW_PX = 1040
"""Frames up to this size are doubled: text of 8 pixels is below what the network was trained on."""
_LEVELS = (0.2, 0.4, 0.7, 0.9)
"""Of the network's map, from recall to precision: where anatomy glows at a low level, lines stand out higher."""
_LEAST_MEAN, _LEAST_FILL = 0.3, 0.4
_TALLEST_PX, _SHORTEST_PX = 120, 3
_MARGIN = 0.6
"""Of a line's height, added on each side: the network marks the core of a line."""
_READER_HEIGHT_PX, _READER_WIDTH_PX = 48, 960


def available() -> bool:
    """Whether the extra ``text`` is installed; looks, loads nothing."""
    return bool(_models()) and importlib.util.find_spec("onnxruntime") is not None


def find_text(frame: NDArray[Any]) -> list[Box]:
    """Boxes around text of two characters or more, in ``frame`` (y, x) or (y, x, samples) of any real type; sorted.

    Polarity, contrast and bit depth don't matter.  Colour: RGB, not a luma-chroma form.  Raises RuntimeError
    where the extra ``text`` is not installed (see :func:`available`).
    """
    grey = _grey(frame)
    if min(grey.shape) < 16:
        return []
    # Twice as large for small text; as it is for large text, whose ends a doubled view misses.
    scales = (2, 1) if max(grey.shape) <= _ENLARGE_BELOW_PX else (1,)
    candidates = {box for scale in scales for box in _candidates(grey, scale)}
    kept: list[Box] = []
    rest: list[Box] = []
    for box in sorted(candidates):
        (kept if _is_read(grey, box) else rest).append(box)
    # The end of a line that can't be read alone belongs to the part that can.
    while ends := [box for box in rest if any(_continues(box, one) for one in kept)]:
        kept += ends
        rest = [box for box in rest if box not in ends]
    return merged(kept)


def _candidates(grey: Picture, scale: int) -> list[Box]:
    """What has the shape of a line where the frame is looked at ``scale`` times as large."""
    flat = _flattened(_zoomed(grey, grey.shape[0] * scale, grey.shape[1] * scale))
    found: list[Box] = []
    for box in _lines(_glow(flat)):
        grown = box.grown(int(_MARGIN * min(box.y1 - box.y0, box.x1 - box.x0)) + 2)
        shrunk = Box(grown.y0 // scale, grown.x0 // scale, -(-grown.y1 // scale), -(-grown.x1 // scale))
        found.append(shrunk.clipped(*grey.shape))
    return found


def _grey(frame: NDArray[Any]) -> Picture:
    """0..1 over the range of the frame without its extremes; colour by its brightest sample."""
    values = frame.astype(np.float32)
    values = np.where(np.isfinite(values), values, 0)
    if values.ndim == 3:
        values = values.max(axis=-1)
    low, high = (float(value) for value in np.percentile(values, [1, 99.5]))
    if high <= low:  # a frame with less than half a per cent of text, and nothing else
        low, high = float(values.min()), float(values.max())
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), np.float32)


def _flattened(grey: Picture) -> Picture:
    """Local contrast about 0.5: anatomy flattened, faint text on it as strong as bright text on black."""
    from scipy import ndimage

    detail = grey - ndimage.gaussian_filter(grey, 10)
    spread = np.sqrt(ndimage.gaussian_filter(detail * detail, 20))
    return np.asarray(np.clip(0.5 + detail / (5 * np.maximum(spread, 0.04)), 0, 1), np.float32)


def _glow(picture: Picture) -> Picture:
    """The detector's map, 0..1, tile by tile."""
    found = np.zeros_like(picture)
    for y0, y1 in _tiles(picture.shape[0]):
        for x0, x1 in _tiles(picture.shape[1]):
            part = picture[y0:y1, x0:x1]
            rows, columns = part.shape
            padded = np.full((-(-rows // 32) * 32, -(-columns // 32) * 32), 0.5, np.float32)
            padded[:rows, :columns] = part
            glow = _networks().detect(padded)[:rows, :columns]
            np.maximum(found[y0:y1, x0:x1], glow, out=found[y0:y1, x0:x1])
    return found


def _tiles(size: int) -> list[tuple[int, int]]:
    if size <= _TILE_PX:
        return [(0, size)]
    count = -(-(size - _OVERLAP_PX) // (_TILE_PX - _OVERLAP_PX))
    starts = [round(index * (size - _TILE_PX) / (count - 1)) for index in range(count)]
    return [(start, start + _TILE_PX) for start in starts]


def _lines(glow: Picture) -> list[Box]:
    """Parts of the map that have the shape of a line of text, at any level."""
    from scipy import ndimage

    found: list[Box] = []
    for level in _LEVELS:
        labels, count = ndimage.label(glow > level)
        if not count:
            break
        means = ndimage.mean(glow, labels, np.arange(1, count + 1))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for (rows, columns), mean, size in zip(ndimage.find_objects(labels), means, sizes, strict=True):
            box = Box(rows.start, columns.start, rows.stop, columns.stop)
            short = min(box.y1 - box.y0, box.x1 - box.x0)
            if (
                _SHORTEST_PX <= short <= _TALLEST_PX
                and mean >= _LEAST_MEAN
                and size >= _LEAST_FILL * box.area
            ):
                found.append(box)
    return found


def _is_read(grey: Picture, box: Box) -> bool:
    """Whether the reader sees characters there, upright or turned by a quarter."""
    if min(box.y1 - box.y0, box.x1 - box.x0) < 4:
        return False
    part = grey[box.y0 : box.y1, box.x0 : box.x1]
    low, high = (float(value) for value in np.percentile(part, [1, 99.8]))
    part = np.clip((part - low) / max(high - low, 0.02), 0, 1).astype(np.float32)
    rows, columns = part.shape
    views = [part] if rows <= 1.5 * columns else [part, np.rot90(part), np.rot90(part, 3)]
    return any(_is_line(view) for view in views)


def _is_line(part: Picture) -> bool:
    width = round(part.shape[1] * _READER_HEIGHT_PX / part.shape[0])
    line = _zoomed(part, _READER_HEIGHT_PX, min(max(width, _READER_HEIGHT_PX), _READER_WIDTH_PX))
    count, confidence = _networks().read(line)
    # One character is no identifier, and is what the reader sees in rims and vessels.
    return (count >= 3 and confidence >= 0.5) or (count == 2 and confidence >= 0.8)


def _continues(box: Box, line: Box) -> bool:
    """Beside the line, about as tall, and no further away than a gap between words."""
    tall, height = box.y1 - box.y0, line.y1 - line.y0
    overlap = min(box.y1, line.y1) - max(box.y0, line.y0)
    gap = max(box.x0, line.x0) - min(box.x1, line.x1)
    return overlap >= 0.7 * min(height, tall) and 0.6 * height <= tall <= 1.5 * height and gap <= height


def _zoomed(picture: Picture, rows: int, columns: int) -> Picture:
    from PIL import Image

    if picture.shape == (rows, columns):
        return picture
    resized = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


@dataclass(frozen=True)
class _Networks:
    detector: Any
    reader: Any

    def detect(self, picture: Picture) -> Picture:
        """(y, x) in multiples of 32 → (y, x): how much each pixel looks like the core of a line."""
        return np.asarray(_run(self.detector, picture)[0, 0], np.float32)

    def read(self, line: Picture) -> tuple[int, float]:
        """(48, x) → how many characters, and the mean confidence in them (CTC: class 0 is the blank)."""
        steps = _run(self.reader, line)[0]
        best = steps.argmax(axis=-1)
        shown = (best != 0) & np.append(True, best[1:] != best[:-1])
        certain = steps.max(axis=-1)[shown]
        return int(shown.sum()), float(certain.mean()) if certain.size else 0.0


def _run(session: Any, picture: Picture) -> NDArray[np.float32]:
    # As trained: three equal channels, -1..1.
    batch = np.repeat((picture * 2 - 1)[np.newaxis, np.newaxis], 3, axis=1)
    (result,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(result)


@functools.cache
def _networks() -> _Networks:
    models = _models()
    if not models:
        raise RuntimeError("the extra 'text' is not installed")
    return _Networks(*(_session(path) for path in models))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # an arena keeps the memory of the largest frame for ever
    options.log_severity_level = 4  # messages may quote paths
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def _models() -> Sequence[Path]:
    """Detector and reader in the wheel of rapidocr, or nothing."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(spec.submodule_search_locations[0]) / "models"
    found = [sorted(folder.glob(pattern)) for pattern in ("*_det_*.onnx", "*_rec_*.onnx")]
    return [paths[0] for paths in found] if all(found) else ()
