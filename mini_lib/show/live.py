"""The live form, for Colab and Jupyter: sliders that draw another scene and ask the model again.

It needs a kernel, so chapters keep it switched off; the built page has the kernel-free figures of `interactive`.
Only what ipywidgets 7.7 and 8 share is used.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from .. import world
from ..registry import find, methods


def what_if(mllm):
    """Show the sliders; returns the widget. Seed, kind of question and method can be changed."""
    import ipywidgets
    from IPython.display import display

    seed = ipywidgets.IntSlider(0, 0, 99, description="scene", continuous_update=False)
    kind = ipywidgets.Dropdown(options=list(world.KINDS), value="color", description="question")
    method = ipywidgets.Dropdown(options=list(methods()), value="occlusion", description="method")
    out = ipywidgets.Output()

    def update(change=None):
        out.clear_output(wait=True)
        with out:
            display(draw(mllm, method.value, kind.value, seed.value))

    for control in (seed, kind, method):
        control.observe(update, names="value")
    update()
    return ipywidgets.VBox([ipywidgets.HBox([seed, kind, method]), out])


def draw(mllm, method: str, kind: str, seed: int) -> Figure:
    """One state of the sliders as a figure."""
    sample = world.sample(1, seed, kinds=(kind,))[0]
    result = find(method).explain(mllm, mllm.prompt(sample.picture, sample.question))
    return result.plot()
