"""Large slides: an Aperio-like TIFF and a DICOM pyramid of the same codestreams, and a zstd-coded zarr.

Nothing of the largest level is encoded: its tiles' codestreams are written as they are, drawn at random so that no
two neighbourhoods agree.  Levels of a quarter and a sixteenth are averaged and encoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage
from zarr.codecs import ZstdCodec

from benchmarks.bench import Bench, Making
from benchmarks.data.dicom_files import uid
from benchmarks.data.tiles import QUALITY, TILE, TileSet, encoded, mosaic, places, smaller, tile_set

MPP = 0.25
FACTORS = (4, 16)
"""Of the stored levels below the largest."""
_VERSION = 6


def _parameters(bench: Bench, **more: int) -> dict[str, object]:
    slide = "" if bench.slide is None else f"{bench.slide.resolve()} {bench.slide.stat().st_size}"
    return {"slide": slide, "version": _VERSION, **more}


def svs(bench: Bench, tiles: int, *, levels: int = 3) -> Path:
    """The folder of a slide of ``tiles`` × ``tiles`` tiles, ``slide.svs``, with so many stored levels."""
    return bench.made(
        f"slide-svs-{tiles}-{levels}",
        _parameters(bench, tiles=tiles, levels=levels),
        lambda to, told: _svs(to / "slide.svs", told, tile_set(bench.slide), tiles, levels),
    )


def wsm(bench: Bench, tiles: int) -> Path:
    """The folder of the same slide as DICOM VL Whole Slide Microscopy, an instance a level."""
    return bench.made(
        f"slide-dicom-{tiles}",
        _parameters(bench, tiles=tiles),
        lambda to, told: _wsm(to, told, tile_set(bench.slide), tiles),
    )


def zstd_zarr(bench: Bench) -> Path:
    """The folder of a plain zarr array ``0``: (3, y, x), chunks of 256, shards of 2048, zstd."""
    side = bench.size.zstd_pixels
    return bench.made(
        f"slide-zstd-{side}",
        _parameters(bench, pixels=side),
        lambda to, told: _zstd(to, told, tile_set(bench.slide), side),
    )


def _svs(path: Path, told: Making, tiles: TileSet, side: int, levels: int) -> None:
    chosen = places(tiles, side)
    edge = side * TILE
    total = side * side
    head = f"Aperio Image Library v11.2.1 \r\n{edge}x{edge}"
    fields = f"AppMag = 40|StripeWidth = 2040|MPP = {MPP:.4f}|OriginalWidth = {edge}|OriginalHeight = {edge}"

    def streams() -> Iterator[bytes]:
        for done, which in enumerate(chosen.ravel()):
            if done % 1000 == 0:
                told(done, total)
            yield tiles.streams[which]

    with tifffile.TiffWriter(path, bigtiff=total * max(map(len, tiles.streams)) > 3 << 30) as tiff:

        def level(data: Iterable[bytes], extent: int, description: str) -> None:
            tiff.write(
                iter(data),
                shape=(extent, extent, 3),
                dtype="uint8",
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                # As Aperio does; otherwise the pages would say YCbCr.
                compressionargs={"outcolorspace": "rgb"},
                description=description,
                metadata=None,
                software=False,
            )

        level(streams(), edge, f"{head} [0,0 {edge}x{edge}] ({TILE}x{TILE}) JPEG/RGB Q={QUALITY}|{fields}")
        thumbnail = smaller(tiles, chosen[:8, :8], 16)
        tiff.write(thumbnail, photometric="rgb", description=f"{head} -> thumbnail|{fields}", metadata=None)
        for factor in FACTORS[: levels - 1]:
            picture = smaller(tiles, chosen, factor)
            extent = picture.shape[0]
            description = f"{head} ({TILE}x{TILE}) -> {extent}x{extent} JPEG/RGB Q={QUALITY}"
            level(encoded(picture), extent, description)


def _wsm(folder: Path, told: Making, tiles: TileSet, side: int) -> None:
    chosen = places(tiles, side)
    total = side * side
    frames = [tiles.streams[which] for which in chosen.ravel()]
    _instance(folder / "level-0.dcm", 0, side * TILE, MPP, frames)
    told(total // 2, total)
    for number, factor in enumerate(FACTORS, start=1):
        picture = smaller(tiles, chosen, factor)
        _instance(
            folder / f"level-{number}.dcm", number, picture.shape[0], MPP * factor, list(encoded(picture))
        )


def _instance(path: Path, level: int, extent: int, mpp: float, frames: list[bytes]) -> None:
    """One level, TILED_FULL, with a basic offset table (PS3.5 A.4), written frame by frame."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = uid(8, level)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    attributes: dict[str, Any] = {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "SOPInstanceUID": uid(8, level),
        "StudyInstanceUID": uid(9, 1),
        "SeriesInstanceUID": uid(9, 2),
        "FrameOfReferenceUID": uid(9, 3),
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "AccessionNumber": "",
        "ContentDate": "20240102",
        "ContentTime": "101112",
        "AcquisitionDateTime": "20240102101112",
        "PatientID": "BENCH-3",
        "PatientName": "Bench^Mark",
        "PatientBirthDate": "",
        "PatientSex": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": level + 1,
        "Manufacturer": "Bench",
        "ManufacturerModelName": "Bench",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "Modality": "SM",
        "ContainerIdentifier": "BENCH-3-A",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if level == 0 else "RESAMPLED"],
        "DimensionOrganizationType": "TILED_FULL",
        "TotalPixelMatrixRows": extent,
        "TotalPixelMatrixColumns": extent,
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 1,
        "NumberOfFrames": len(frames),
        "Rows": TILE,
        "Columns": TILE,
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": "RGB",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "ImagedVolumeWidth": extent * mpp / 1000,
        "ImagedVolumeHeight": extent * mpp / 1000,
        "ImagedVolumeDepth": 0.001,
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0],
        "SpecimenLabelInImage": "NO",
        "BurnedInAnnotation": "NO",
        "FocusMethod": "AUTO",
        "ExtendedDepthOfField": "NO",
        "VolumetricProperties": "VOLUME",
        "LossyImageCompression": "01",
        "LossyImageCompressionMethod": "ISO_10918_1",
        "LossyImageCompressionRatio": 10,
    }
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    measures, shared, path_item, origin = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    kind = Dataset()
    kind.FrameType = list(dataset.ImageType)
    shared.WholeSlideMicroscopyImageFrameTypeSequence = Sequence([kind])
    identification = Dataset()
    identification.OpticalPathIdentifier = "1"
    shared.OpticalPathIdentificationSequence = Sequence([identification])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    path_item.OpticalPathIdentifier = "1"
    path_item.IlluminationTypeCodeSequence = Sequence([_code("111744", "DCM", "Brightfield illumination")])
    path_item.IlluminationColorCodeSequence = Sequence([_code("414298005", "SCT", "Full Spectrum")])
    dataset.OpticalPathSequence = Sequence([path_item])
    origin.XOffsetInSlideCoordinateSystem = 20
    origin.YOffsetInSlideCoordinateSystem = 20
    dataset.TotalPixelMatrixOriginSequence = Sequence([origin])
    with path.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
        file.write(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff")
        padded = [len(frame) + len(frame) % 2 for frame in frames]
        offsets = np.cumsum([0, *(length + 8 for length in padded)])[:-1]
        table = offsets.astype("<u4").tobytes() if offsets[-1] < 1 << 32 else b""
        file.write(_item(len(table)) + table)
        for frame, length in zip(frames, padded, strict=True):
            file.write(_item(length) + frame + b"\0" * (length - len(frame)))
        file.write(b"\xfe\xff\xdd\xe0\x00\x00\x00\x00")


def _item(length: int) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", length)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _zstd(folder: Path, told: Making, tiles: TileSet, side: int) -> None:
    chosen = places(tiles, -(-side // TILE))
    shard = min(2048, side)
    array = zarr.create_array(
        str(folder / "0"),
        shape=(3, side, side),
        dtype="uint8",
        chunks=(3, 256, 256),
        shards=(3, shard, shard),
        compressors=ZstdCodec(level=1),
        fill_value=255,
        dimension_names=["c", "y", "x"],
        config={"write_empty_chunks": True},
    )
    for top in range(0, side, shard):
        first, last = top // TILE, -(-(top + shard) // TILE)
        strip = mosaic(tiles.pixels, chosen[first:last])[top - first * TILE :][:shard, :side]
        array[:, top : top + shard] = strip.transpose(2, 0, 1)
        told(top, side)
