"""Every odd picture is converted with a note, or refused in one sentence."""

import numpy as np
import pytest
from PIL import Image

from mini_lib.pictures import LONG_SIDE, open_picture
from mini_lib.refusal import Refusal


def save(picture, path, **options):
    picture.save(path, **options)
    return path


def test_a_plain_picture_is_left_alone(tmp_path):
    picture = Image.effect_noise((40, 30), 50).convert("RGB")
    out, notes = open_picture(save(picture, tmp_path / "a.png"))
    assert notes == [] and np.array_equal(np.asarray(out), np.asarray(picture))


@pytest.mark.parametrize("make, reason", [
    (lambda p: p / "no.png", "There is no file"),
    (lambda p: p, "is a folder"),
    (lambda p: (p / "t.png").write_text("not a picture") and p / "t.png", "not a picture"),
    (lambda p: (p / "empty.png").write_bytes(b"") or p / "empty.png", "not a picture"),
    (lambda p: save(Image.new("RGB", (9, 9)), p / "a.gif", save_all=True,
                    append_images=[Image.new("RGB", (9, 9), "red")]), "is animated"),
])
def test_a_file_that_is_no_single_picture_is_refused_with_its_reason(tmp_path, make, reason):
    with pytest.raises(Refusal, match=reason) as caught:
        open_picture(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    path = save(Image.effect_noise((200, 200), 90).convert("RGB"), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Refusal, match="cut short or damaged"):
        open_picture(path)


def test_a_16_bit_picture_is_scaled_and_said_so(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    out, notes = open_picture(save(Image.fromarray(values), tmp_path / "deep.png"))
    assert "more than 8 bits" in notes[0]
    assert np.abs(np.asarray(out)[..., 0] - values / 257.0).max() <= 1


@pytest.mark.parametrize("values, white", [
    (np.full((8, 8), 200, np.uint16), 65535),          # "I;16" says how deep it is, however dark it is
    (np.full((8, 8), 200, np.int32), 255),
    (np.full((8, 8), 2570, np.int32), 65535),
    (np.full((8, 8), 0.5, np.float32), 1),
    (np.full((8, 8), 200, np.float32), 255),
    (np.full((8, 8), 2570, np.float32), 65535),
    (np.full((8, 8), np.nan, np.float32), 1),
])
def test_what_counts_as_white_in_a_deep_picture_is_found_and_said(values, white):
    out, notes = open_picture(Image.fromarray(values))
    assert f"taking {white} for white" in notes[0]
    assert out.getpixel((0, 0)) == (round(255 * float(np.nan_to_num(values[0, 0])) / white),) * 3


def test_a_transparent_picture_is_laid_on_white(tmp_path):
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 4, 8))
    out, notes = open_picture(save(picture, tmp_path / "clear.png"))
    assert "transparent" in notes[0]
    assert out.getpixel((0, 0)) == (0, 0, 255) and out.getpixel((7, 7)) == (255, 255, 255)


def test_a_cmyk_picture_is_converted_and_said_so(tmp_path):
    out, notes = open_picture(save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "print.jpg", quality=100))
    assert "CMYK" in notes[0] and out.mode == "RGB"
    red, green, blue = out.getpixel((4, 4))
    assert red > 200 and green < 60 and blue < 60


def test_a_large_picture_is_shrunk_and_said_so(tmp_path):
    out, notes = open_picture(save(Image.new("RGB", (5000, 100), "green"), tmp_path / "wide.png"))
    assert out.size == (LONG_SIDE, 82) and "shrunk from 5000 x 100" in notes[0]


def test_a_huge_picture_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(Refusal, match="million"):
        open_picture(save(Image.new("1", (12000, 12000)), tmp_path / "huge.png"))


def test_a_sideways_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    out, _ = open_picture(save(Image.new("RGB", (30, 20)), tmp_path / "turned.jpg", exif=exif))
    assert out.size == (20, 30)


def test_an_array_of_the_wrong_kind_is_refused():
    with pytest.raises(Refusal, match="uint8"):
        open_picture(np.zeros((4, 4, 3)))


def test_an_array_is_held_to_the_same_size_as_a_file():
    out, notes = open_picture(np.zeros((100, 5000, 3), np.uint8))
    assert out.size == (LONG_SIDE, 82) and "shrunk from 5000 x 100" in notes[0]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_an_array_of_another_shape_is_refused(shape):
    with pytest.raises(Refusal, match="height, width, 3"):
        open_picture(np.zeros(shape, np.uint8))
