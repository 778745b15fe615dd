"""mini_lib: explain multimodal LLMs, and measure whether the explanation is right.

    from mini_lib import load
    mllm = load()                                    # `tiny`, shipped with the package
    prompt = mllm.prompt("scene.png", "what color is the star ?")
    mllm.answer(prompt)
"""

__version__ = "0.1.1"
__all__ = ["Refusal", "load", "__version__"]


def __getattr__(name: str):
    # Loaded on first use: the site build and the taxonomy commands must not wait for torch.
    if name == "load":
        from .loading import load
        return load
    if name == "Refusal":
        from .refusal import Refusal
        return Refusal
    raise AttributeError(f"module 'mini_lib' has no attribute {name!r}")
