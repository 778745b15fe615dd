"""Figures: drawn, described, escaped, and asking for nothing from outside."""

import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from mini_lib import world
from mini_lib.registry import methods
from mini_lib.show import Scrubber, png
from mini_lib.show.static import figure


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
    import json
    for slug, (result, sample) in results.items():
        figure_bytes = png(result.plot())
        assert Image.open(io.BytesIO(figure_bytes)).width > 300, slug
        assert len(result.explore().to_html()) < 400_000, slug
        assert json.loads(json.dumps(result.to_dict()))["question"] == sample.question


def test_a_map_drawn_with_its_truth_differs_from_one_without(results):
    result, sample = results["occlusion"]
    assert png(result.plot()) != png(result.plot(truth=sample.mask))


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
    assert slider["type"] == "range" and label["for"] == slider["id"]
    assert all(attrs["alt"] for tag, attrs in found if tag == "img")
    assert any(tag == "output" and attrs["aria-live"] == "polite" for tag, attrs in found)


def test_text_of_users_cannot_break_out_of_the_page():
    evil = '"><script>alert(1)</script>'
    found = tags(Scrubber([(evil, small_png(), evil)], evil, evil).to_html())
    assert sum(tag == "script" for tag, _ in found) == 1


def test_two_figures_on_one_page_do_not_share_ids():
    one = Scrubber([("a", small_png(), "x")], "Layer", "Try.").to_html()
    two = Scrubber([("a", small_png("blue"), "x")], "Layer", "Try.").to_html()
    ids = [attrs["id"] for text in (one, two) for _, attrs in tags(text) if "id" in attrs]
    assert len(ids) == len(set(ids))


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


def test_the_live_sliders_redraw_when_moved(mllm):
    from mini_lib.show.live import what_if
    box = what_if(mllm)
    seed, kind, method = box.children[0].children
    kind.value, method.value, seed.value = "shape", "logit-lens", 3
    assert box.children[1] is not None and (seed.value, kind.value, method.value) == (3, "shape", "logit-lens")
