"""What a person should know of what was staged: the keys of a report's notes, with their meaning.

A note never keeps anything out (that is a refusal, ``refusals.py``); it says that something was split, filled,
kept as it is, or could not be told from the headers.
"""

from __future__ import annotations

NOTES: dict[str, str] = {
    # What became of a series
    "split-series": "Series that became more than one item: other orientation, size, echo, image type or position.",
    "multi-energy": "Series with several tube voltages at each position: one item a voltage.",
    "multi-echo": "Series with several echo times at each position: one item an echo.",
    "several-phase-encodings": "MR series with several axes or polarities of phase encoding: one item each.",
    "several-acquisitions": "Series whose images at one position were taken or reconstructed in different ways "
    "(sequence, options, coil, contrast agent, slice thickness …): one item each.",
    "several-frames-of-reference": "Series whose images refer to more than one frame of reference: one item each.",
    "in-plane-offset": "Series with images side by side at one distance along the normal: one item a stack.",
    "interleaved-stacks": "Series whose images are evenly spaced only by acquisition, time or phase: one item each.",
    "incomplete-grid": "4-D series where some times (or b-values …) lack slices: these became items of their own.",
    "repeated-positions": "Series with several images at one position and nothing that tells which belong together, "
    "such as an image sent again under a new identifier: the first of each position, then the second, are items.",
    "order-by-repeat": "Series where only the order of acquisition tells repeats apart: `axis_t` is an index.",
    "per-slice-times": "4-D series whose times differ from slice to slice: `axis_t` gives the first of each.",
    "differing-duplicates": "SOP Instance UIDs that whole, differing items share: these are refused, so that a volume "
    "may lack a slice.",
    # What an item is
    "time-axis": "Items with an axis t (time, b-value, cardiac phase …), named in `axis_t`.",
    "cine": "Multi-frame images without positions, kept as a sequence in stored order.",
    "uneven-spacing": "Volumes whose slices are not evenly spaced: a slice may be missing. Use the slice positions.",
    "tilted": "Volumes whose slices are sheared against each other (gantry tilt): use the affine.",
    "geometry-missing": "Images of a tomographic kind that say no position, orientation or pixel spacing: kept singly.",
    "mosaic-uncut": "Siemens mosaics without the vendor's elements that tell how to cut them: whole, without a place.",
    "geometry-invalid": "Images with an orientation, position or spacing that no scanner makes: kept singly.",
    "frame-of-reference-missing": "Volumes that name no frame of reference: nothing says what they are aligned with.",
    "thickness-assumed": "Single slices that do not say how thick they are: 1 mm is assumed along z.",
    "inverted-greyscale": "Images where low values are bright (MONOCHROME1), stored as they are.",
    "lossy-source": "Images that lost something to compression before they came here.",
    "overshoot-clipped": "Volumes in which a lossy codec gave values beyond Bits Stored: set to the nearest in range.",
    "padding-varies": "Volumes whose pixel padding value differs from slice to slice.",
    "modality-lut": "Images whose values become physical ones by a look-up table, kept beside them.",
    # Labels, doses, maps
    "label-own-grid": "Segmentations that do not fit the grid of a staged source: kept on a grid of their own.",
    "label-overlap": "Segmentations whose segments overlap: a channel each instead of one label map.",
    "source-not-staged": "Segmentations, doses or maps whose source series is not in the copy.",
    # Burned-in text and faces
    "blanked": "Images in which regions that may carry burned-in text were blanked.",
    "defaced": "Head scans from which the face was removed.",
    # Slides
    "no-physical-size": "Slides that do not say how large a pixel is.",
    "largest-level-missing": "Slides whose largest levels are not in the archive, or can't be read: level 0 is a "
    "smaller one, and its pixel size is its own.",
    "no-focal-distance": "Slides with several focal planes that do not say how far apart these are.",
    "slide-encoded-anew": "Slides whose codestreams could not be kept: lossy originals, decoded and encoded as JPEG.",
    "slide-without-some-tiles": "Slides of which the scanner stored no tiles in places: white there, or zero.",
    "slide-tiles-filled": "Slides of which a smaller level lacks tiles where a larger one has some: averaged from it; "
    "`levels[].tiles_filled` of the item says how many of each level.",
    "slide-level-dropped": "Slides with a level that lacks channels or focal planes of the first: derived instead.",
    # Tables
    "table-rows-without-patient": "Tables with rows that name no patient: these rows stayed behind.",
}
