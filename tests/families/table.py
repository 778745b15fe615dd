"""The families as data: one entry each. To add one, copy the entry that is most like it; tests/families/test_families.py does the rest."""

from __future__ import annotations

from .build import Family

TEXT = dict(vocab_size="VOCABULARY", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, bos_token_id="<s>", eos_token_id="</s>", pad_token_id="<pad>",
            tie_word_embeddings=False)
TOWER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
CHATML = ("<|im_start|>user\n", "{image}\n", "{text}<|im_end|>\n<|im_start|>assistant\n", "{text}<|im_end|>\n")
CHAT_MARKS = ("<|im_start|>", "<|im_end|>")
NORM = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)


def clip(side: int, patch: int) -> dict:
    return dict(model_type="clip_vision_model", image_size=side, patch_size=patch, **TOWER)


def siglip(side: int, patch: int) -> dict:
    return dict(model_type="siglip_vision_model", image_size=side, patch_size=patch, vision_use_head=False, **TOWER)


def crop(side: int) -> dict:
    return dict(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def fixed(side: int) -> dict:
    return dict(size={"height": side, "width": side})


def qwen_tower(**more) -> dict:
    return dict(depth=2, num_heads=4, patch_size=8, spatial_merge_size=2, temporal_patch_size=2, **more)


QWEN_TOKENS = dict(image_token="<|image_pad|>", video_token="<|video_pad|>", vision_start_token="<|vision_start|>",
                   vision_end_token="<|vision_end|>", eos_token="<|im_end|>", pad_token="<|endoftext|>")
QWEN_IDS = dict(image_token_id="<|image_pad|>", video_token_id="<|video_pad|>", vision_start_token_id="<|vision_start|>",
                vision_end_token_id="<|vision_end|>", tie_word_embeddings=False)
QWEN_TEXT = TEXT | dict(bos_token_id="<|endoftext|>", eos_token_id="<|im_end|>", pad_token_id="<|endoftext|>")
QWEN_CHAT = ("<|im_start|>user\n", "<|vision_start|>{image}<|vision_end|>", *CHATML[2:])
QWEN_PICTURES = ("Qwen2VLImageProcessorPil", dict(patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96}))
MROPE = dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]})

FAMILIES = (
    Family("LLaVA-1.5", "llava", example="llava-hf/llava-1.5-7b-hf",
           config=dict(vision_config=clip(48, 8), text_config=dict(model_type="llama", **TEXT), image_token_index="<image>",
                       image_seq_length=36, tie_word_embeddings=False),
           processor=("LlavaProcessor", dict(patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)),
           pictures=("CLIPImageProcessorPil", crop(48)), tokens=dict(image_token="<image>")),
    Family("LLaVA-NeXT", "llava_next", example="llava-hf/llava-v1.6-mistral-7b-hf",
           config=dict(vision_config=clip(32, 8), text_config=dict(model_type="mistral", **TEXT), image_token_index="<image>",
                       image_grid_pinpoints=[[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]], tie_word_embeddings=False),
           processor=("LlavaNextProcessor", dict(patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)),
           pictures=("LlavaNextImageProcessorPil", dict(image_grid_pinpoints=[[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]], **crop(32))),
           tokens=dict(image_token="<image>"), template=("[INST] ", "{image}\n", "{text} [/INST]", " {text}</s>")),
    Family("Qwen2-VL", "qwen2_vl", example="Qwen/Qwen2-VL-2B-Instruct",
           config=dict(vision_config=qwen_tower(embed_dim=32, hidden_size=32), text_config=QWEN_TEXT | MROPE, **QWEN_IDS),
           processor=("Qwen2VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
)
