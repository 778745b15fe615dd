"""Figures: drawn, described, escaped, and asking for nothing from outside."""

import html.parser
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mini_lib import world
from mini_lib.registry import methods
from mini_lib.results import Curves, LensGrid, Matrix, PatchMap
from mini_lib.show import Scrubber, interactive, png, static
from mini_lib.show.static import draw_map, figure


@pytest.fixture(scope="module")
def results(mllm):
    sample = world.sample(1, 0, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    return {slug: (m.explain(mllm, prompt), sample) for slug, m in methods().items()}


def small_png(color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_result_can_be_plotted_explored_and_written_as_plain_data(results):
    for slug, (result, sample) in results.items():
        figure_bytes = png(result.plot())
        assert Image.open(io.BytesIO(figure_bytes)).width > 300, slug
        assert len(result.explore().to_html()) < 400_000, slug
        assert json.loads(json.dumps(result.to_dict()))["question"] in (sample.question, "" if methods()[slug].many else sample.question)


def test_a_map_drawn_with_its_truth_differs_from_one_without(results):
    result, sample = results["occlusion"]
    assert png(result.plot()) != png(result.plot(truth=sample.mask))


@pytest.mark.parametrize("text", ["what is $$ ?", "is $\\alpha_$ here ?", "a_b^c"])
def test_text_of_users_and_models_is_drawn_as_it_is_and_not_as_mathematics(results, text):
    for result, _ in results.values():
        odd = replace(result, question=text, target=text, method=text)
        if isinstance(result, LensGrid):
            odd = replace(odd, words=np.full_like(odd.words, text, object))
        elif isinstance(result, PatchMap):
            odd = replace(odd, words=tuple((text, value) for _, value in odd.words))
        assert text in odd.plot().axes[0].get_title()
        png(odd.plot())
    interactive.patch_map(replace(results["occlusion"][0], question=text, target=text))


CURVES = Curves(np.array([[0.1, 0.5], [0.2, 0.1]]), ["object", "ground"], ["block.0", "block.1"], "after block", "accuracy", "probe",
                low=np.array([[0.0, 0.4], [0.1, 0.0]]), high=np.array([[0.2, 0.6], [0.3, 0.2]]), question="what ?", target="red")
MATRIX = Matrix(np.array([[1.0, -0.5], [0.25, 1.0]]), ["red", "blue"], ["block.0", "block.1"], ("word", "layer"), "cosine", "similarity")


@pytest.mark.parametrize("result", [CURVES, MATRIX], ids=["curves", "matrix"])
def test_lines_and_matrices_are_drawn_explored_and_written(result):
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert np.allclose(plain["values"], result.values) and result.method in repr(result)
    assert result.plot().axes[0].get_title().startswith(result.method)
    scrubber = result.explore()
    names = result.points if isinstance(result, Curves) else result.rows
    assert [label for label, _, _ in scrubber.frames] == names and len(set(png for _, png, _ in scrubber.frames)) == len(names)
    assert all(f"{value:.3g}" in text for (_, _, text), row in zip(
        scrubber.frames, result.values.T if isinstance(result, Curves) else result.values) for value in row)


def test_of_a_matrix_with_many_rows_those_with_the_largest_values_are_shown():
    values = np.zeros((1024, 3))
    values[100:1000:50, 1] = np.arange(1, 19)                            # 18 rows that are not 0
    scrubber = replace(MATRIX, values=values, rows=[f"head {k}" for k in range(1024)], columns=["a", "b", "c"]).explore()
    assert [label for label, _, _ in scrubber.frames] == [f"head {k}" for k in range(200, 1000, 50)]
    assert scrubber.frames[scrubber.start][0] == "head 950" and "16 of the 1024 rows" in scrubber.caption


@pytest.mark.parametrize("text", ["what is $$ ?", "is $\\alpha_$ here ?"])
def test_names_of_lines_rows_and_points_are_no_mathematics(text):
    png(replace(CURVES, lines=[text] * 2, points=[text] * 2, axis=text, unit=text).plot())
    png(static.curves(replace(CURVES, lines=[text] * 2), 1))
    png(static.matrix(replace(MATRIX, rows=[text] * 2, columns=[text] * 2, axes=(text, text), unit=text), 1))


def test_methods_side_by_side_have_a_picture_each_and_are_each_in_full_colour(results):
    result, sample = results["occlusion"]
    faint = replace(result, values=result.values / 1e4, method="faint")
    axes = static.side_by_side([result, faint], sample.mask).axes
    assert [ax.get_title().splitlines()[0] for ax in axes] == [result.question, "occlusion", "faint"]
    one, other = ([patch.get_facecolor() for patch in ax.patches] for ax in axes[1:])
    assert np.allclose(one, other)


def test_a_slider_through_methods_says_where_each_peak_lies(results):
    result, sample = results["occlusion"]
    shares = sample.mask.reshape(8, 8, 8, 8).mean((1, 3))
    right, wrong = (replace(result, values=values) for values in (shares, 1 - shares))
    found = interactive.compare([right, wrong], sample.mask)
    assert [label for label, _, _ in found.frames] == ["occlusion", "occlusion"]
    assert [text.rpartition(", ")[2] for _, _, text in found.frames] == ["in the outline.", "outside the outline."]
    assert all("outline" not in text for _, _, text in interactive.compare([right]).frames)


def test_a_weak_map_keeps_its_digits_in_words_and_in_data(results):
    result = results["occlusion"][0]
    weak = replace(result, values=result.values / np.abs(result.values).max() * 1.234567e-7)
    assert "peak 0.00" not in repr(weak) and "e-0" in repr(weak) and "e-0" in weak.plot().axes[1].get_title()
    assert np.allclose(weak.to_dict()["values"], weak.values, rtol=1e-3, atol=0)


def test_rounding_noise_stays_pale_and_a_finding_does_not(results):
    result = results["occlusion"][0]
    noise = replace(result, values=result.values / np.abs(result.values).max() * 1e-6)

    def strongest(one, **options):
        ax = figure(1)[1][0]
        draw_map(ax, one, **options)
        return max(patch.get_alpha() for patch in ax.patches)

    assert strongest(noise) < 0.01 and strongest(result) == strongest(noise, largest=1e-6) == pytest.approx(0.85)
    assert strongest(replace(noise, unit="share")) == pytest.approx(0.85), "the floor is in nats"


def test_figures_do_not_pile_up_in_pyplot(results):
    import matplotlib.pyplot as plt
    results["occlusion"][0].plot()
    assert plt.get_fignums() == []


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def tags(text):
    parser = Tags()
    parser.feed(text)
    return parser.tags


def test_one_frame_is_visible_before_any_script_runs():
    scrubber = Scrubber([("a", small_png(), "first"), ("b", small_png("blue"), "second")], "Layer", "Try it.", start=1)
    frames = [attrs for tag, attrs in tags(scrubber.to_html()) if attrs.get("class") == "frame"]
    assert [("hidden" in f) for f in frames] == [True, False]


def test_the_slider_is_named_and_each_frame_described():
    found = tags(Scrubber([("a", small_png(), "first")], "Layer", "Try it.").to_html())
    slider = next(attrs for tag, attrs in found if tag == "input")
    label = next(attrs for tag, attrs in found if tag == "label")
    assert slider["type"] == "range" and "for" not in label
    page = Scrubber([("a", small_png(), "first")], "Layer", "Try it.").to_html()
    assert re.search(r"<label>Layer <input [^>]*></label>", page), "the label holds the slider, so it names it"
    assert all(attrs["alt"] for tag, attrs in found if tag == "img")
    assert any(tag == "output" and attrs["aria-live"] == "polite" for tag, attrs in found)


def test_text_of_users_cannot_break_out_of_the_page():
    evil = '"><script>alert(1)</script>'
    found = tags(Scrubber([(evil, small_png(), evil)], evil, evil).to_html())
    assert sum(tag == "script" for tag, _ in found) == 1


def test_two_figures_on_one_page_do_not_share_ids_even_if_they_are_the_same():
    one = Scrubber([("a", small_png(), "x")], "Layer", "Try.").to_html()
    ids = [attrs["id"] for _, attrs in tags(one + one) if "id" in attrs]
    assert len(ids) == len(set(ids)) and "getElementById" not in one


def test_nothing_is_asked_for_from_outside():
    text = Scrubber([("a", small_png(), "x")], "Layer", "Try.").to_html()
    assert "http:" not in text and "https:" not in text and "//" not in text.replace("data:image/png;base64,", "").split("<script>")[1]


def test_the_same_frames_give_the_same_html():
    fig, axes = figure(1)
    axes[0].imshow(np.zeros((4, 4)))
    assert Scrubber([("a", png(fig), "x")], "L", "c").to_html() == Scrubber([("a", png(fig), "x")], "L", "c").to_html()


def test_every_state_of_the_live_sliders_draws_without_widgets(mllm):
    from mini_lib.show.live import draw
    for kind in world.KINDS:
        assert draw(mllm, "logit-lens", kind, 1).axes


def test_the_live_sliders_redraw_when_moved(monkeypatch):
    from mini_lib.show import live
    drawn = []
    monkeypatch.setattr(live, "draw", lambda mllm, *state: drawn.append(state) or figure(1)[0])
    seed, kind, method = live.what_if(None).children[0].children
    kind.value, method.value, seed.value = "shape", "logit-lens", 3
    assert drawn == [("occlusion", "color", 0), ("occlusion", "shape", 0), ("logit-lens", "shape", 0), ("logit-lens", "shape", 3)]
