from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from archive import SHARED
from archive import slide as aperio
from PIL import Image, ImageCms
from slide_copy import Made, make
from slides import LABEL_CANARY, he, ndpi, picture_of_text, pyramid

SVS = SHARED / "pathology" / "CMU-1-Small-Region.svs"
JPEG: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 90}}


def seen_by_openslide(path: Path, level: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(c, y, x) and where OpenSlide drew anything."""
    with openslide.OpenSlide(path) as slide:
        pixels = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
    return pixels[..., :3].transpose(2, 0, 1), pixels[..., 3] == 255


def same_as_openslide(made: Made, path: Path, level: int = 0) -> bool:
    reference, drawn = seen_by_openslide(path, level)
    assert drawn.mean() > 0.9
    return np.array_equal(made.level(level)[:, drawn], reference[:, drawn])


def noisy(height: int, width: int) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(7).integers(-25, 25, (height, width, 3))
    return np.clip(he(height, width) + noise, 0, 255).astype(np.uint8)


def test_a_real_aperio_slide_leaves_neither_label_nor_words(tmp_path: Path) -> None:
    if not SVS.is_file():
        pytest.skip("needs ../shared/data")
    made = make([SVS])
    assert same_as_openslide(made, SVS)
    whole = made.everything()
    raw = SVS.read_bytes()
    with tifffile.TiffFile(SVS) as tiff:
        for page in tiff.pages:
            for word in str(page.description).replace("|", " ").split():  # type: ignore[union-attr]
                if len(word) > 5:
                    assert word.encode() not in whole, word
            if not page.is_tiled:  # type: ignore[union-attr]
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                    windows = [raw[at : at + 32] for at in range(offset, offset + count - 32, 97)]
                    telling = [window for window in windows if len(set(window)) > 20]
                    assert not any(window in whole for window in telling[:200])
    with openslide.OpenSlide(SVS) as slide:
        for name, picture in slide.associated_images.items():
            small = np.asarray(picture)[..., :3].transpose(2, 0, 1)
            shapes = [level.shape for _, level in made.group().arrays()]
            assert small.shape not in shapes, name


@pytest.mark.parametrize("mcu_starts", [True, False], ids=["with-list", "by-markers"])
@pytest.mark.parametrize("interval", [256, 1024])
def test_hamamatsus_single_jpeg_is_cut_at_its_restart_markers(
    tmp_path: Path, interval: int, mcu_starts: bool
) -> None:
    path = tmp_path / "x.ndpi"
    ndpi(path, pyramid(noisy(1090, 3072)), interval_px=interval, mcu_starts=mcu_starts)
    made = make([path])
    assert same_as_openslide(made, path)
    assert same_as_openslide(made, path, 1)
    assert [one["pixels"] for one in made.ours()["levels"]][:3] == ["original-jpeg"] * 3
    assert made.rows[0]["spacing_mm"] == pytest.approx([1 / 4400] * 2)
    assert made.ours()["dicom"] == {
        "Manufacturer": "HAMAMATSU",
        "Modality": "SM",
        "ObjectiveLensPower": 20.0,
    }


def test_rows_under_openslides_last_whole_strip_are_there(tmp_path: Path) -> None:
    pixels = he(1093, 2304)
    ndpi(tmp_path / "x.ndpi", [pixels])
    got = make([tmp_path / "x.ndpi"]).level(0).transpose(1, 2, 0)
    assert np.abs(got[-13:].astype(int) - pixels[-13:]).mean() < 4


def test_hamamatsus_focal_planes_are_an_axis(tmp_path: Path) -> None:
    pixels = noisy(300, 2304)
    ndpi(tmp_path / "x.ndpi", [pixels], heights_um=(3.0, -2.0, 0.0))
    made = make([tmp_path / "x.ndpi"])
    array = made.level(0)
    assert array.shape == (3, 3, 300, 2304)
    assert made.ours()["focal_planes_um"] == [-2.0, 0.0, 3.0]
    # The writer rolled each plane by its height.
    for place, height in enumerate((-2, 0, 3)):
        shown = np.roll(pixels, height, axis=0).astype(int)
        assert np.abs(array[:, place].transpose(1, 2, 0) - shown).mean() < 12


def test_the_distance_of_uneven_focal_planes_is_one_wherever_it_is_told(tmp_path: Path) -> None:
    ndpi(tmp_path / "x.ndpi", [noisy(300, 2304)], heights_um=(-2.0, 0.0, 1.0, 10.0))
    made = make([tmp_path / "x.ndpi"])
    assert made.rows[0]["spacing_mm"][0] == pytest.approx(0.002)  # median of 2, 1, 9 µm
    image = made.group().attrs.asdict()["ome"]["multiscales"][0]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"][1] == pytest.approx(2.0)


def test_hamamatsus_macro_map_serial_and_date_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "x.ndpi"
    ndpi(path, [he(300, 2304)], serial="SN-CANARY-88")
    with tifffile.TiffFile(path) as tiff:
        macro: Any = tiff.pages[1]
        offset, count = macro.dataoffsets[0], macro.databytecounts[0]
    scan = path.read_bytes()[offset + count - 300 : offset + count - 200]
    whole = make([path]).everything()
    for canary in (b"SN-CANARY", b"REF-", b"1999:12", b"x.ndpi", scan):
        assert canary not in whole


def test_a_restart_interval_cut_short_refuses_the_slide(tmp_path: Path) -> None:
    path = tmp_path / "x.ndpi"
    ndpi(path, [noisy(300, 2304)])
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\xff\xd3", 3000)
    raw[at : at + 2] = b"\0\0"
    path.write_bytes(bytes(raw))
    assert make([path]).refused == {1: "truncated-tile"}


def ome(path: Path, data: np.ndarray[Any, Any], levels: int = 3, **more: Any) -> None:
    axes = more.pop("axes")
    metadata = {
        "axes": axes,
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
        **more.pop("metadata", {}),
    }
    options = {"tile": (256, 256), "photometric": "minisblack", **more}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        tiff.write(data, subifds=levels - 1, metadata=metadata, **options)
        for level in range(1, levels):
            step = 2**level
            small = data[..., ::step, ::step] if axes[-1] == "X" else data[..., ::step, ::step, :]
            tiff.write(np.ascontiguousarray(small), subfiletype=1, **options)
        label = picture_of_text(LABEL_CANARY)
        tiff.write(label, photometric="rgb", metadata={"axes": "YXS", "Name": "JANE-DOE-CANARY label"})


@pytest.mark.parametrize(
    ("axes", "shape"), [("CYX", (4, 700, 900)), ("ZCYX", (3, 2, 500, 600)), ("CZYX", (2, 3, 500, 600))]
)
@pytest.mark.parametrize("compression", ["zlib", None, "lzw"])
def test_fluorescence_is_lossless_with_its_channels_and_planes(
    tmp_path: Path, axes: str, shape: tuple[int, ...], compression: str | None
) -> None:
    data = np.random.default_rng(3).integers(0, 60_000, shape).astype(np.uint16)
    named = {
        "Channel": {"Name": ["DAPI", "JANE-DOE-CANARY", "Alexa Fluor 488", "CY5"][: shape[axes.index("C")]]}
    }
    ome(tmp_path / "x.ome.tif", data, axes=axes, compression=compression, metadata=named)
    made = make([tmp_path / "x.ome.tif"])
    assert made.refused == {}
    expected = data.transpose(1, 0, 2, 3) if axes == "ZCYX" else data
    assert np.array_equal(made.level(0), expected)
    assert np.array_equal(made.level(1), expected[..., ::2, ::2])
    assert made.rows[0]["dtype"] == "uint16"
    assert made.rows[0]["axes"] == ("cyx" if axes == "CYX" else "czyx")
    assert made.rows[0]["spacing_mm"][-2:] == [0.0005, 0.0005]
    dyes = [one.get("fluorophore") for one in made.ours()["channels"]]
    assert dyes == ["DAPI", None, "ALEXAFLUOR 488", "CY5"][: len(dyes)]
    whole = made.everything()
    for canary in (b"JANE", LABEL_CANARY.encode(), b"<OME", b"tifffile"):
        assert canary not in whole


@pytest.mark.parametrize(
    ("told", "step_mm", "axis", "scale", "heights", "notes"),
    [
        ({}, None, {"name": "z", "type": "space"}, 1.0, None, ["no-focal-distance"]),
        (
            {"PhysicalSizeZ": 2.5, "PhysicalSizeZUnit": "µm"},
            0.0025,
            {"name": "z", "type": "space", "unit": "micrometer"},
            2.5,
            [0.0, 2.5, 5.0],
            [],
        ),
    ],
)
def test_no_distance_of_focal_planes_is_made_up(
    tmp_path: Path,
    told: dict[str, Any],
    step_mm: float | None,
    axis: dict[str, str],
    scale: float,
    heights: list[float] | None,
    notes: list[str],
) -> None:
    data = np.random.default_rng(3).integers(0, 60_000, (2, 3, 300, 300)).astype(np.uint16)
    ome(tmp_path / "x.ome.tif", data, axes="CZYX", levels=1, metadata=told)
    made = make([tmp_path / "x.ome.tif"])
    (row,) = made.rows
    assert row["spacing_mm"] == [step_mm, 0.0005, 0.0005]
    assert row["n_channels"] == 2
    image = made.group().attrs.asdict()["ome"]["multiscales"][0]
    assert image["axes"][1] == axis
    transformations = image["datasets"][0]["coordinateTransformations"]
    assert (transformations[0]["scale"][1], transformations[1]["translation"][1]) == (scale, 0.0)
    assert made.ours().get("focal_planes_um") == heights
    assert made.notes == notes


def test_a_brightfield_ome_tiff_keeps_its_tiles(tmp_path: Path) -> None:
    ome(tmp_path / "x.ome.tif", noisy(700, 900), axes="YXS", photometric="rgb", **JPEG)
    made = make([tmp_path / "x.ome.tif"])
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tiff:
        reference = tiff.series[0].levels[0].asarray()
    assert np.array_equal(made.level(0).transpose(1, 2, 0), reference)
    assert [one["pixels"] for one in made.ours()["levels"]][:2] == ["original-jpeg"] * 2
    assert made.rows[0]["n_channels"] == 3


@pytest.mark.parametrize("bomb", ["<!DOCTYPE x [<!ENTITY a 'b'>]>", "<!entity"])
def test_ome_xml_that_declares_entities_is_refused(tmp_path: Path, bomb: str) -> None:
    xml = f'<?xml version="1.0"?>{bomb}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"></OME>'
    tifffile.imwrite(
        tmp_path / "x.tif", he(256, 256), tile=(256, 256), description=xml, metadata=None, photometric="rgb"
    )
    assert make([tmp_path / "x.tif"]).refused == {1: "malformed-slide"}


def philips(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """Three levels whose pages are padded to whole tiles, label and macro as the scanner writes them."""
    label = base64.b64encode(LABEL_CANARY.encode() * 20).decode()
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" '
        f'Element="0x0030" PMSVR="IDoubleArray">&quot;{0.00025 * 2**n}&quot; &quot;{0.00025 * 2**n}&quot;'
        "</Attribute></DataObject>"
        for n in range(3)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_DEVICE_SERIAL_NUMBER" PMSVR="IString">SN-CANARY-99</Attribute>'
        '<Attribute Name="PIM_DP_UFS_BARCODE" PMSVR="IString">BARCODE-CANARY</Attribute>'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI'
        '</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>'
        f"{spacings}</Array></Attribute></DataObject>"
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">LABELIMAGE'
        f'</Attribute><Attribute Name="PIM_DP_IMAGE_DATA">{label}</Attribute></DataObject>'
        "</Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(3):
            small = pixels[:: 2**level, :: 2**level]
            if level:
                more = ((0, -small.shape[0] % 256), (0, -small.shape[1] % 256), (0, 0))
                small = np.pad(small, more, constant_values=255)
            tiff.write(
                np.ascontiguousarray(small),
                tile=(256, 256),
                photometric="ycbcr",
                subsampling=(2, 2),
                description=xml if not level else f"level={level}",
                software="Philips DP v1.0",
                subfiletype=int(level > 0),
                metadata=None,
                **JPEG,
            )
        tiff.write(picture_of_text(LABEL_CANARY), description="Label", metadata=None)


def test_philips_levels_are_cut_to_their_true_size(tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    philips(path, noisy(1200, 1500))
    made = make([path])
    assert made.ours()["format"] == "philips-tiff"
    assert same_as_openslide(made, path)
    assert [level.shape[1:] for _, level in sorted(made.group().arrays())] == [
        (1200, 1500),
        (600, 750),
        (300, 375),
        (150, 188),
    ]
    assert made.rows[0]["spacing_mm"] == [0.00025, 0.00025]
    whole = made.everything()
    for canary in (b"CANARY", base64.b64encode(LABEL_CANARY.encode())[:20]):
        assert canary not in whole


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiled_pyramid_of_no_known_maker_keeps_its_tiles(
    tmp_path: Path, photometric: str, bigtiff: bool
) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for pixels in pyramid(noisy(900, 1100)):
            tiff.write(pixels, tile=(256, 256), photometric=photometric, metadata=None, **JPEG)
    made = make([path])
    assert same_as_openslide(made, path)
    assert [one["pixels"] for one in made.ours()["levels"]] == ["original-jpeg"] * 3 + ["derived"]


def test_lossless_tiles_stay_lossless(tmp_path: Path) -> None:
    pixels = noisy(600, 700)
    tifffile.imwrite(
        tmp_path / "x.tif", pixels, tile=(256, 256), compression="zlib", predictor=True, photometric="rgb"
    )
    made = make([tmp_path / "x.tif"])
    assert np.array_equal(made.level(0).transpose(1, 2, 0), pixels)
    assert made.ours()["levels"][0]["pixels"] == "lossless"


@pytest.mark.parametrize("compression", [33005, 33003])
def test_aperio_jpeg2000_tiles_are_kept_where_decoders_agree(tmp_path: Path, compression: int) -> None:
    pixels = noisy(480, 720)
    shown = pixels
    if compression == 33003:
        shown = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(shown[y : y + 240, x : x + 240]),
            level=0,
            codecformat="j2k",
            mct=compression == 33005,
        )
        for y in range(0, 480, 240)
        for x in range(0, 720, 240)
    ]
    with tifffile.TiffWriter(tmp_path / "x.svs") as tiff:
        tiff.write(
            iter(tiles),
            shape=(480, 720, 3),
            dtype=np.uint8,
            tile=(240, 240),
            compression=compression,
            photometric="rgb",
            description="Aperio Image Library v1|AppMag = 40|MPP = 0.25",
            metadata=None,
        )
    made = make([tmp_path / "x.svs"])
    got = made.level(0).transpose(1, 2, 0).astype(int)
    reference, _ = seen_by_openslide(tmp_path / "x.svs")
    if compression == 33005:
        assert made.ours()["levels"][0]["pixels"] == "original-jpeg2000"
        assert np.array_equal(got, reference.transpose(1, 2, 0))
    else:
        assert made.ours()["levels"][0]["pixels"] == "re-encoded-jpeg"
        assert np.abs(got - reference.transpose(1, 2, 0)).mean() < 4


def test_what_only_openslide_knows_is_decoded(tmp_path: Path) -> None:
    # Trestle: recognised by its Software tag, tiles of which may overlap.
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        noisy(600, 700),
        tile=(256, 256),
        photometric="rgb",
        software="MedScan",
        description="Background Color=FFFFFF;White Balance=FFFFFF;Objective Power=20;JPEG Quality=60",
        metadata=None,
        **JPEG,
    )
    made = make([path])
    assert made.ours()["format"] == "openslide"
    reference, _ = seen_by_openslide(path)
    assert np.abs(made.level(0).astype(int) - reference).mean() < 3


def test_a_colour_profile_is_kept_without_its_words(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "JANE".encode("utf-16-be"))
    tifffile.imwrite(
        tmp_path / "x.tif", he(300, 400), tile=(256, 256), iccprofile=profile, photometric="rgb", **JPEG
    )
    made = make([tmp_path / "x.tif"])
    kept = base64.b64decode(made.ours()["icc_profile"])
    assert "JANE".encode("utf-16-be") in profile
    assert "JANE".encode("utf-16-be") not in kept
    assert b"desc" not in kept
    assert kept[24:36] == bytes(12)  # no date
    picture = Image.fromarray(noisy(64, 64))
    lab = ImageCms.createProfile("LAB")
    results = []
    for one in (profile, kept):
        opened = ImageCms.ImageCmsProfile(io.BytesIO(one))
        transform = ImageCms.buildTransform(opened, lab, "RGB", "LAB")
        results.append(np.asarray(ImageCms.applyTransform(picture, transform)))
    assert np.array_equal(results[0], results[1])


def test_a_list_of_a_slides_files_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.vms").write_bytes(b"[Virtual Microscope Specimen]\nNoLayers=1\n")
    assert make([tmp_path / "x.vms"]).refused == {1: "unsupported-slide-layout"}


@pytest.mark.parametrize("identifier", ["S21-0001", " s21-0001 "])
def test_a_slide_is_opted_out_by_its_files_name(tmp_path: Path, identifier: str) -> None:
    from slide_copy import KEY

    aperio(tmp_path / "S21-0001.svs")
    made = make([tmp_path / "S21-0001.svs"], opt_out=[KEY.opt_out_hash("", identifier)])
    assert (made.rows, made.refused) == ([], {1: "opted-out"})


def test_parts_are_equal_over_equal_items_and_travel(tmp_path: Path) -> None:
    import pickle

    from imaging.deid import profiles
    from imaging.staging.pathology.headers import LevelHeader, SlideHeader
    from imaging.staging.pathology.slide import slide_of_file
    from imaging.staging.pathology.task import SlideTask

    level = LevelHeader(width=40_000, height=40_000, tile_width=256, tile_height=256, encoding="jpeg")
    header = SlideHeader(
        format="svs",
        levels=(level,),
        samples=3,
        dtype="uint8",
        channels=({},),
        mpp=None,
        background="white",
        attributes={},
    )
    task = SlideTask("i", slide_of_file(1, header), {}, profiles.load("slide-basic@1"))
    steps = [list(parts) for parts in task.steps([])]
    assert pickle.loads(pickle.dumps(steps)) == steps
    assert sum(part.share for parts in steps for part in parts) == pytest.approx(1)
    assert len({part.path for parts in steps for part in parts}) == sum(map(len, steps))


def test_a_hamamatsu_level_that_cannot_be_cut_is_derived(tmp_path: Path) -> None:
    # Its rows are no whole number of intervals, and it is too large to be one tile.
    path = tmp_path / "x.ndpi"
    first = noisy(400, 6144)
    ndpi(path, [first, noisy(200, 3072)], interval_px=3072, uneven_px=2048)
    made = make([path])
    assert made.refused == {}
    assert [one["pixels"] for one in made.ours()["levels"]][:2] == ["original-jpeg", "derived"]


def test_a_hamamatsu_slide_of_very_long_intervals_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.ndpi"
    ndpi(path, [he(160, 9216)], interval_px=9216)
    made = make([path])
    assert made.ours()["format"] == "openslide"
    reference, _ = seen_by_openslide(path)
    assert np.abs(made.level(0).astype(int) - reference).mean() < 2


def test_an_ome_tiff_whose_words_are_elsewhere_is_named_as_such(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<BinaryOnly MetadataFile="x.companion.ome" UUID="urn:uuid:2"/></OME>'
    )
    tifffile.imwrite(
        tmp_path / "x.tif", he(256, 256), tile=(256, 256), description=xml, metadata=None, photometric="rgb"
    )
    assert make([tmp_path / "x.tif"]).refused == {1: "unsupported-slide-layout"}


def test_gt450s_label_is_known_by_its_subfile_type_alone(tmp_path: Path) -> None:
    # Tiled, of the baseline's shape, and its description does not say what it is.
    pixels = he(512, 768)
    label = picture_of_text(LABEL_CANARY, 256, 384)
    with tifffile.TiffWriter(tmp_path / "x.svs") as tiff:
        description = "Aperio Leica Biosystems GT450 v1.0.1|AppMag = 40|MPP = 0.2639"
        common: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "metadata": None, **JPEG}
        tiff.write(pixels, description=description, **common)
        tiff.write(pixels[::4, ::4], description=description, **common)
        tiff.write(label, subfiletype=1, description=description, **common)
        tiff.write(label, subfiletype=9, description=description, **common)
    made = make([tmp_path / "x.svs"])
    origins = [(one["pixels"], one["downsample"]) for one in made.ours()["levels"]]
    assert origins[:2] == [("original-jpeg", [1.0, 1.0]), ("original-jpeg", [4.0, 4.0])]
