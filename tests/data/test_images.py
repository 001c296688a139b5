from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prsnet.data import images
from prsnet.data.images import (
    MEAN,
    MEAN_COLOUR,
    STD,
    decode_image,
    list_images,
    load_image,
    load_stack,
    read_image,
    resize_image,
)
from prsnet.errors import DataError


def noise(height: int = 12, width: int = 7, seed: int = 0) -> images.Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(form: str, tmp_path: Path) -> None:
    pixels = noise()
    file = tmp_path / "image.anything"
    file.write_bytes(encoded(Image.fromarray(pixels), form))
    got = read_image(file)
    assert got.dtype == np.uint8
    assert got.flags.writeable
    np.testing.assert_array_equal(got, pixels)


def test_webp_and_gif_are_read() -> None:
    flat = Image.new("RGB", (9, 5), (255, 0, 0))
    for form in ("WEBP", "GIF"):
        got = decode_image(encoded(flat, form), name="x")
        assert got.shape == (5, 9, 3)
        assert np.abs(got.astype(int) - [255, 0, 0]).max() <= 3


def test_first_frame_of_an_animation() -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    got = decode_image(encoded(red, "GIF", save_all=True, append_images=[blue]), name="x")
    np.testing.assert_array_equal(got[0, 0], [255, 0, 0])


def test_grey_16_bit_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535, 1000]], dtype=np.uint16)
    got = decode_image(encoded(Image.fromarray(values), "PNG"), name="x")
    expected = np.round(values / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(got, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_in_both_byte_orders(form: str) -> None:
    values = np.arange(0, 65536, 4369, dtype=np.uint16).reshape(4, 4)
    for array in (values, values.astype(">u2")):
        if form == "PNG" and array.dtype.byteorder == ">":
            continue
        got = decode_image(encoded(Image.fromarray(array), form), name="x")
        np.testing.assert_array_equal(got[:, :, 0], (values // 257).astype(np.uint8))


def test_32_bit_integers_beyond_16_bits_and_floats_are_refused() -> None:
    for array in (np.full((2, 2), 70000, np.int32), np.ones((2, 2), np.float32)):
        with pytest.raises(DataError, match=r"deep\.tif: pixels"):
            decode_image(encoded(Image.fromarray(array), "TIFF"), name="deep.tif")


def test_grey_bilevel_and_palette() -> None:
    grey = noise()[:, :, 0]
    got = decode_image(encoded(Image.fromarray(grey), "PNG"), name="x")
    np.testing.assert_array_equal(got, np.repeat(grey[:, :, None], 3, axis=2))
    bilevel = decode_image(encoded(Image.fromarray(grey > 127), "PNG"), name="x")
    np.testing.assert_array_equal(bilevel[:, :, 1], np.where(grey > 127, 255, 0))
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(decode_image(encoded(palette, "PNG"), name="x"), [[[10, 20, 30], [200, 100, 50]]])


def test_transparent_pixels_show_the_mean_colour() -> None:
    pixels = np.array([[[9, 8, 7, 0], [9, 8, 7, 255], [255, 255, 255, 51]]], dtype=np.uint8)
    got = decode_image(encoded(Image.fromarray(pixels), "PNG"), name="x")
    np.testing.assert_array_equal(got[0, :2], [MEAN_COLOUR, [9, 8, 7]])
    blend = 0.2 * 255 + 0.8 * np.array(MEAN_COLOUR)
    assert np.abs(got[0, 2] - blend).max() <= 1
    grey = np.array([[[40, 0], [40, 255]]], dtype=np.uint8)
    got = decode_image(encoded(Image.fromarray(grey, "LA"), "PNG"), name="x")
    np.testing.assert_array_equal(got[0], [MEAN_COLOUR, [40, 40, 40]])


def test_palette_and_rgb_with_a_transparent_colour() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    data = encoded(palette, "PNG", transparency=0)
    np.testing.assert_array_equal(decode_image(data, name="x"), [[MEAN_COLOUR, [200, 100, 50]]])
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    data = encoded(rgb, "PNG", transparency=(1, 2, 3))
    np.testing.assert_array_equal(decode_image(data, name="x"), [[MEAN_COLOUR, [4, 5, 6]]])


def test_mean_colour_is_nearly_zero_after_normalisation() -> None:
    normalised = (np.array(MEAN_COLOUR) / 255 - np.array(MEAN)) / np.array(STD)
    assert np.abs(normalised).max() < 0.5 / 255 / min(STD)


def test_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    got = decode_image(encoded(cmyk, "JPEG", quality=95), name="x")
    assert np.abs(got.astype(int) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation(form: str, orientation: int, turn: Callable[[Any], Any]) -> None:
    blocks = np.kron(noise(2, 3, seed=5), np.ones((16, 16, 1))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    image = Image.fromarray(blocks)
    stored = decode_image(encoded(image, form, **options), name="x")
    got = decode_image(encoded(image, form, exif=exif, **options), name="x")
    np.testing.assert_array_equal(got, turn(stored))


def test_damaged_exif_does_not_lose_the_image() -> None:
    data = encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert decode_image(data, name="x").shape == (12, 7, 3)


@pytest.mark.skipif(find_spec("simplejpeg") is None, reason="simplejpeg is not installed")
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("shape", [(128, 64), (37, 23), (1, 1), (9, 130)])
def test_fast_jpeg_equals_pillow(
    subsampling: int, progressive: bool, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(noise(*shape))
    data = encoded(image, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    assert images._decode_plain_jpeg(data, images.MAX_PIXELS) is not None
    fast = decode_image(data, name="x")
    monkeypatch.setattr(images, "simplejpeg", None)
    np.testing.assert_array_equal(fast, decode_image(data, name="x"))
    np.testing.assert_array_equal(fast, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("zero.jpg", b"", "the file is empty"),
        ("text.png", b"hello, this is no image at all", "not an image, expected BMP"),
        ("pdf.jpg", b"%PDF-1.4 nothing", "not an image"),
        ("cut.jpg", encoded(Image.fromarray(noise(64, 32)), "JPEG")[:-700], "truncated or damaged"),
        ("cut.png", encoded(Image.fromarray(noise(64, 32)), "PNG")[:-700], "truncated or damaged"),
        ("cut.bmp", encoded(Image.fromarray(noise(64, 32)), "BMP")[:-700], "truncated or damaged"),
        ("head.jpg", encoded(Image.fromarray(noise(64, 32)), "JPEG")[:20], "not an image|damaged"),
        ("huge.png", png_header(20000, 20000), "more than 64000000 pixels"),
        ("large.png", png_header(8001, 8001), "8001x8001 claims more than 64000000 pixels"),
        ("format.ppm", b"P6 1 1 255 abc", "not an image"),
    ],
)
def test_bad_files(
    name: str, data: bytes, message: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.setattr(images, "simplejpeg", None)
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_image(file)
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_bad_places(tmp_path: Path) -> None:
    places = [(tmp_path, "got a folder"), (tmp_path / "no.png", "no such image"), (Path("a\0b.png"), "a.b")]
    for path, message in places:
        with pytest.raises(DataError, match=message):
            read_image(path)


def test_a_huge_header_allocates_nothing(tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    file.write_bytes(png_header(20000, 20000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_image(file)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_limits_are_arguments(tmp_path: Path) -> None:
    for form in ("PNG", "JPEG"):
        file = tmp_path / f"image.{form}"
        file.write_bytes(encoded(Image.fromarray(noise(10, 10)), form))
        with pytest.raises(DataError, match="10x10 claims more than 99 pixels"):
            read_image(file, max_pixels=99)
        assert read_image(file, max_pixels=100).shape == (10, 10, 3)
        with pytest.raises(DataError, match="expected at most 20"):
            read_image(file, max_bytes=20)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"]), st.data())
def test_damaged_bytes_end_in_pixels_or_in_a_data_error(form: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(Image.fromarray(noise(9, 9)), form))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = decode_image(bytes(whole[: data.draw(st.integers(1, len(whole)))]), name="x", max_pixels=1_000_000)
    except DataError as error:
        assert error.message.startswith("x: ")
    else:
        assert got.dtype == np.uint8
        assert got.ndim == 3
        assert got.shape[2] == 3


def test_resize_is_bicubic_with_antialias() -> None:
    pixels = noise(40, 30)
    expected = np.asarray(Image.fromarray(pixels).resize((8, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_image(pixels, (20, 8)), expected)
    # Antialiasing: a fine checkerboard shrinks to its mean, where plain sampling would show black or white.
    board = np.kron(np.tile([[0, 255], [255, 0]], (16, 16))[:, :, None], np.ones((1, 1, 3))).astype(np.uint8)
    assert np.abs(resize_image(board, (4, 4)).astype(int) - 127).max() < 8
    assert resize_image(pixels, (40, 30)) is pixels


def test_load_image_is_read_then_resized(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(noise(30, 20)).save(file)
    np.testing.assert_array_equal(load_image(file, (16, 8)), resize_image(noise(30, 20), (16, 8)))


def test_stack_keeps_the_order_and_counts_progress(tmp_path: Path) -> None:
    paths = []
    for index in range(20):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(noise(6 + index, 5, seed=index)).save(paths[-1])
    calls: list[tuple[int, int]] = []
    stack = load_stack(paths, (8, 4), workers=3, progress=lambda done, total: calls.append((done, total)))
    assert stack.shape == (20, 3, 8, 4)
    for index, path in enumerate(paths):
        np.testing.assert_array_equal(stack[index], load_image(path, (8, 4)).transpose(2, 0, 1))
    assert calls == [(done, 20) for done in range(1, 21)]
    assert load_stack([], (8, 4)).shape == (0, 3, 8, 4)


def test_stack_raises_the_first_error_or_leaves_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for index, path in enumerate(paths):
        path.write_bytes(b"" if index in {2, 4} else encoded(Image.fromarray(noise(seed=index)), "PNG"))
    with pytest.raises(DataError, match=r"2\.png"):
        load_stack(paths, (8, 4), workers=2)
    failed: list[tuple[int, str]] = []
    stack = load_stack(paths, (8, 4), on_error=lambda index, error: failed.append((index, error.message)))
    assert [index for index, _ in failed] == [2, 4]
    expected = load_stack([paths[index] for index in (0, 1, 3, 5)], (8, 4))
    np.testing.assert_array_equal(stack, expected)


def test_list_images_ignores_what_is_no_image(tmp_path: Path) -> None:
    wanted = ["a/1.jpg", "a/2.JPG", "a/b/3.Png", "a.webp", "z 1/ü.jpeg"]
    other = ["Thumbs.db", "a/readme.txt", ".hidden/1.jpg", "a/._1.jpg", "__MACOSX/a/1.jpg", "@eaDir/1.jpg", "jpg"]
    for name in [*wanted, *other]:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert sorted(found) == sorted(wanted)
    assert list_images(tmp_path) == sorted(list_images(tmp_path))


def test_list_images_follows_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.jpg").touch()
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "link").symlink_to(tmp_path / "real")
    assert list_images(tmp_path / "pool") == [tmp_path / "pool" / "link" / "1.jpg"]


def test_list_images_of_a_bad_place(tmp_path: Path) -> None:
    (tmp_path / "file.jpg").touch()
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="expected a folder"):
        list_images(tmp_path / "file.jpg")
