"""The families as data: one entry each. To add one, copy the entry that is most like it; tests/families/test_families.py does the rest."""

from __future__ import annotations

from .build import Family

TEXT = dict(vocab_size="VOCABULARY", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, bos_token_id="BOS", eos_token_id="EOS", pad_token_id="PAD",
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
QWEN_CHAT = ("<|im_start|>user\n", "<|vision_start|>{image}<|vision_end|>", *CHATML[2:])
QWEN_PICTURES = ("Qwen2VLImageProcessorPil", dict(patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96}))
MROPE = dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]})
MOE = dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
GEMMA_TOKENS = dict(image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>", placeholder="<start_of_image>")
GEMMA_CHAT = ("<start_of_turn>user\n", "{image}", "{text}<end_of_turn>\n<start_of_turn>model\n", "{text}<end_of_turn>\n")
PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
IDEFICS = ("User:", "{image}", "{text}<end_of_utterance>\nAssistant:", " {text}<end_of_utterance>\n")
ROW_COL = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
GLM_IDS = dict(image_token_id="<|image|>", video_token_id="<|video|>", image_start_token_id="<|begin_of_image|>", tie_word_embeddings=False,
               image_end_token_id="<|end_of_image|>", video_start_token_id="<|begin_of_video|>", video_end_token_id="<|end_of_video|>")
GLM_TOKENS = dict(image_token="<|image|>", video_token="<|video|>", eos_token="<|endoftext|>")
GLM_MARKS = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|user|>", "<|assistant|>")
GLM_CHAT = ("<|user|>\n", "<|begin_of_image|>{image}<|end_of_image|>", "{text}<|assistant|>\n", "{text}\n")
GLM_PICTURES = dict(patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})
PIXTRAL = dict(model_type="pixtral", image_size=96, patch_size=8, head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
               **TOWER)

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
           config=dict(vision_config=qwen_tower(embed_dim=32, hidden_size=32), text_config=TEXT | MROPE, **QWEN_IDS),
           processor=("Qwen2VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("Qwen2.5-VL", "qwen2_5_vl", example="Qwen/Qwen2.5-VL-3B-Instruct",
           config=dict(vision_config=qwen_tower(hidden_size=32, intermediate_size=48, out_hidden_size=32, window_size=32, fullatt_block_indexes=[1]),
                       text_config=TEXT | MROPE, **QWEN_IDS),
           processor=("Qwen2_5_VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("Qwen3-VL", "qwen3_vl", example="Qwen/Qwen3-VL-4B-Instruct",
           config=dict(vision_config=qwen_tower(hidden_size=32, intermediate_size=48, out_hidden_size=32, num_position_embeddings=64,
                                                deepstack_visual_indexes=[0]), text_config=TEXT | MROPE, **QWEN_IDS),
           processor=("Qwen3VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("Qwen3.5", "qwen3_5", gain=0.5, example="Qwen/Qwen3.5-4B",
           config=dict(vision_config=qwen_tower(hidden_size=32, intermediate_size=48, out_hidden_size=32, num_position_embeddings=64),
                       text_config=TEXT | dict(layer_types=["linear_attention", "full_attention"], linear_key_head_dim=8, linear_value_head_dim=8,
                                                    linear_num_key_heads=2, linear_num_value_heads=4, rope_parameters={
                                                        "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2],
                                                        "partial_rotary_factor": 1.0}), **QWEN_IDS),
           processor=("Qwen3VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("LLaVA-OneVision", "llava_onevision", example="llava-hf/llava-onevision-qwen2-7b-ov-hf",
           config=dict(vision_config=siglip(32, 8), text_config=dict(model_type="qwen2", **TEXT), image_token_index="<image>",
                       video_token_index="<video>", image_grid_pinpoints=PINPOINTS, tie_word_embeddings=False, vision_aspect_ratio="anyres_max_4"),
           processor=("LlavaOnevisionProcessor", dict(num_image_tokens=16, vision_feature_select_strategy="full", vision_aspect_ratio="anyres_max_4")),
           pictures=("LlavaOnevisionImageProcessorPil", dict(image_grid_pinpoints=PINPOINTS, **fixed(32))),
           tokens=dict(image_token="<image>", video_token="<video>", eos_token="<|im_end|>"), marks=("<|im_start|>",), template=CHATML),
    Family("VipLLaVA", "vipllava", example="llava-hf/vip-llava-7b-hf",
           config=dict(vision_config=clip(48, 8), text_config=dict(model_type="llama", **TEXT), image_token_index="<image>",
                       vision_feature_layers=[-2, -1], image_seq_length=36, tie_word_embeddings=False),
           processor=("LlavaProcessor", dict(patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)),
           pictures=("CLIPImageProcessorPil", crop(48)), tokens=dict(image_token="<image>")),
    Family("Gemma 3", "gemma3", example="google/gemma-3-4b-it",
           config=dict(vision_config=siglip(32, 4), text_config=dict(query_pre_attn_scalar=8, sliding_window=16, **TEXT) , image_token_index="<image_soft_token>",
                       boi_token_index="<start_of_image>", eoi_token_index="<end_of_image>", mm_tokens_per_image=16, tie_word_embeddings=False),
           processor=("Gemma3Processor", dict(image_seq_length=16)), pictures=("Gemma3ImageProcessorPil", dict(**fixed(32), **NORM)),
           tokens=GEMMA_TOKENS, marks=("<start_of_turn>", "<end_of_turn>"), template=GEMMA_CHAT),
    Family("PaliGemma", "paligemma", example="google/paligemma-3b-mix-224",
           config=dict(vision_config=siglip(32, 8) | dict(projection_dim=32), text_config=dict(model_type="gemma", **TEXT), image_token_index="<image>",
                       projection_dim=32, tie_word_embeddings=False),
           processor=("PaliGemmaProcessor", {}), pictures=("SiglipImageProcessorPil", dict(image_seq_length=16, **fixed(32), **NORM)),
           tokens=dict(image_token="<image>"), template=()),
    Family("Idefics2", "idefics2", example="HuggingFaceM4/idefics2-8b", place=False,
           config=dict(vision_config=dict(image_size=64, patch_size=8, **TOWER), text_config=dict(model_type="mistral", **TEXT),
                       perceiver_config=dict(hidden_size=32, resampler_n_latents=8, resampler_depth=1, resampler_n_heads=4, resampler_head_dim=8,
                                             num_key_value_heads=2), image_token_id="<image>", tie_word_embeddings=False),
           processor=("Idefics2Processor", dict(image_seq_len=8)),
           pictures=("Idefics2ImageProcessorPil", dict(size={"shortest_edge": 32, "longest_edge": 64}, do_image_splitting=False)),
           tokens=dict(image_token="<image>", image_boundary_token="<fake_token_around_image>"), marks=("<end_of_utterance>",), template=IDEFICS),
    Family("Idefics3", "idefics3", example="HuggingFaceM4/Idefics3-8B-Llama3",
           config=dict(vision_config=dict(image_size=32, patch_size=4, **TOWER), text_config=dict(model_type="llama", **TEXT), scale_factor=2,
                       image_token_id="<image>", tie_word_embeddings=False),
           processor=("Idefics3Processor", dict(image_seq_len=16)),
           pictures=("Idefics3ImageProcessorPil", dict(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})),
           tokens=dict(image_token="<image>"), marks=("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *ROW_COL), template=IDEFICS),
    Family("SmolVLM", "smolvlm", example="HuggingFaceTB/SmolVLM2-2.2B-Instruct", missing="its processor needs the package num2words and torchvision",
           config={}, processor=("SmolVLMProcessor", {}), pictures=("SmolVLMImageProcessorPil", {})),
    Family("InternVL3", "internvl", example="OpenGVLab/InternVL3-1B-hf",
           config=dict(vision_config=dict(image_size=[32, 32], patch_size=[4, 4], **TOWER), text_config=dict(model_type="qwen2", **TEXT),
                       image_token_id="<IMG_CONTEXT>", image_seq_length=16, downsample_ratio=0.5, tie_word_embeddings=False),
           processor=("InternVLProcessor", dict(image_seq_length=16)),
           pictures=("GotOcr2ImageProcessorPil", dict(crop_to_patches=True, min_patches=1, max_patches=6, **fixed(32))),
           tokens=dict(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>",
                       placeholder="<IMG_CONTEXT>", eos_token="<|im_end|>"), marks=("<|im_start|>",), template=CHATML),
    Family("Ovis2", "ovis2", example="thisisiron/Ovis2-2B-hf",
           config=dict(vision_config=dict(image_size=32, patch_size=4, hidden_stride=2, vocab_size=64, num_visual_indicator_tokens=5, **TOWER),
                       text_config=dict(model_type="qwen2", **TEXT), image_token_id="<IMG_ATOM>", hidden_size=32, vocab_size="VOCABULARY",
                       visual_indicator_token_ids=["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"], tie_word_embeddings=False),
           processor=("Ovis2Processor", dict(image_seq_length=16)), pictures=("Ovis2ImageProcessorPil", dict(crop_to_patches=True, max_patches=6, **fixed(32))),
           tokens=dict(eos_token="<|im_end|>", placeholder="<image>"), marks=("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>",
                                                                             "<IMG_END>", "<|im_start|>"), template=CHATML),
    Family("GLM-4.1V", "glm4v", example="zai-org/GLM-4.1V-9B-Thinking", config=dict(
               vision_config=dict(depth=2, hidden_size=32, num_heads=4, image_size=48, patch_size=8, out_hidden_size=32, intermediate_size=48,
                                  spatial_merge_size=2), text_config=TEXT | MROPE, **GLM_IDS),
           processor=("Glm4vProcessor", {}), pictures=("Glm4vImageProcessorPil", GLM_PICTURES), tokens=GLM_TOKENS, marks=GLM_MARKS, template=GLM_CHAT),
    Family("GLM-4.6V", "glm46v", example="zai-org/GLM-4.6V-Flash", config=dict(
               vision_config=dict(model_type="glm4v_vision", depth=2, hidden_size=32, num_heads=4, image_size=48, patch_size=8, out_hidden_size=32,
                                  intermediate_size=48, spatial_merge_size=2), text_config=dict(model_type="glm4v_text", **TEXT) | MROPE, **GLM_IDS),
           processor=("Glm46VProcessor", {}), pictures=("Glm46VImageProcessorPil", GLM_PICTURES), tokens=GLM_TOKENS, marks=GLM_MARKS,
           template=GLM_CHAT),
    Family("LightOnOCR", "lighton_ocr", example="lightonai/LightOnOCR-1B-1025",
           config=dict(vision_config=PIXTRAL, text_config=dict(model_type="qwen3", **TEXT), image_token_id="<|image_pad|>",
                       spatial_merge_size=2, tie_word_embeddings=False),
           processor=("LightOnOcrProcessor", dict(patch_size=8, spatial_merge_size=2)),
           pictures=("PixtralImageProcessorPil", dict(size={"longest_edge": 96}, patch_size={"height": 16, "width": 16})),
           tokens=dict(image_token="<|image_pad|>", image_break_token="<|vision_pad|>", image_end_token="<|vision_end|>", eos_token="<|im_end|>"),
           marks=("<|im_start|>",), template=CHATML),
    Family("Mistral 3", "mistral3", example="mistralai/Mistral-Small-3.1-24B-Instruct-2503", missing="transformers' PixtralProcessor needs torchvision",
           config={}, processor=("PixtralProcessor", {}), pictures=("PixtralImageProcessorPil", {})),
    Family("PaddleOCR-VL", "paddleocr_vl", example="PaddlePaddle/PaddleOCR-VL",
           config=dict(vision_config=dict(image_size=48, patch_size=8, spatial_merge_size=2, **TOWER), text_config=TEXT | MROPE, image_token_id="<|image_pad|>",
                       video_token_id="<|video_pad|>", vision_start_token_id="<|vision_start|>", vision_end_token_id="<|vision_end|>",
                       tie_word_embeddings=False),
           processor=("PaddleOCRVLProcessor", {}),
           pictures=("PaddleOCRVLImageProcessorPil", dict(patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})),
           tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("EXAONE 4.5", "exaone4_5", example="LGAI-EXAONE/EXAONE-4.5-33B",
           config=dict(vision_config=qwen_tower(hidden_size=32, intermediate_size=48, out_hidden_size=32, window_size=32, fullatt_block_indexes=[1],
                                                num_key_value_heads=2),
                       text_config=dict(model_type="exaone4", sliding_window=64, sliding_window_pattern=2, **TEXT), **QWEN_IDS),
           processor=("Exaone4_5_Processor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("Aria", "aria", example="rhymes-ai/Aria", place=False,
           config=dict(vision_config=dict(model_type="idefics3_vision", image_size=980, patch_size=140, **TOWER),
                       text_config=dict(moe_num_experts=2, moe_topk=1, moe_num_shared_experts=1, **TEXT), projector_patch_to_query_dict={"49": 8},
                       image_token_index="<|img|>", tie_word_embeddings=False),
           processor=("AriaProcessor", dict(size_conversion={"980": 8})), pictures=("AriaImageProcessorPil", dict(max_image_size=980)),
           tokens=dict(image_token="<|img|>", eos_token="<|im_end|>", unk_token="<unk>"), marks=("<|im_start|>",), template=CHATML),
    Family("Janus-Pro", "janus", example="deepseek-community/Janus-Pro-1B",
           config=dict(vision_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=48, patch_size=8, mlp_ratio=2.0,
                                          projection_dim=32, num_image_tokens=36), text_config=dict(model_type="llama", **TEXT),
                       vq_config=dict(embed_dim=8, num_embeddings=16, base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1, num_patches=6,
                                      projection_dim=32, image_token_embed_dim=32), image_token_id="<image_placeholder>", tie_word_embeddings=False),
           processor=("JanusProcessor", dict(num_image_tokens=36)), pictures=("JanusImageProcessorPil", dict(**fixed(48), **NORM)),
           tokens=dict(image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>"),
           template=("<|User|>: ", "{image}\n", "{text}\n\n<|Assistant|>:", " {text}</s>")),
    Family("DeepSeek-VL", "deepseek_vl", example="deepseek-community/deepseek-vl-1.3b-chat",
           config=dict(vision_config=siglip(48, 8), text_config=dict(model_type="llama", **TEXT), image_token_id="<image_placeholder>",
                       tie_word_embeddings=False),
           processor=("DeepseekVLProcessor", dict(num_image_tokens=36)), pictures=("DeepseekVLImageProcessorPil", dict(**fixed(48), **NORM)),
           tokens=dict(image_token="<image_placeholder>"), template=("User: ", "{image}", "{text}\n\nAssistant:", " {text}</s>")),
    Family("Aya Vision", "aya_vision", example="CohereLabs/aya-vision-8b",
           config=dict(vision_config=siglip(32, 4), text_config=dict(model_type="cohere2", sliding_window=64, **TEXT), downsample_factor=2,
                       image_token_index="<|IMG_PATCH|>", tie_word_embeddings=False),
           processor=("AyaVisionProcessor", dict(patch_size=4, img_size=32, downsample_factor=2, image_token="<image>")),
           pictures=("GotOcr2ImageProcessorPil", dict(crop_to_patches=True, min_patches=1, max_patches=6, **fixed(32))),
           tokens=dict(placeholder="<image>"), marks=("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL",
                                                     "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
           template=("<|START_OF_TURN_TOKEN|>", "{image}", "{text}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>", "{text}<|END_OF_TURN_TOKEN|>")),
    Family("Command A Vision", "cohere2_vision", example="CohereLabs/command-a-vision-07-2025", missing="its image processor needs torchvision", config={},
           processor=("Cohere2VisionProcessor", {}), pictures=("Cohere2VisionImageProcessor", {})),
    Family("LFM2-VL", "lfm2_vl", example="LiquidAI/LFM2-VL-1.6B", missing="its image processor needs torchvision", config={},
           processor=("Lfm2VlProcessor", {}), pictures=("Lfm2VlImageProcessor", {})),
    Family("PerceptionLM", "perception_lm", example="facebook/Perception-LM-1B", missing="its image processor needs torchvision", config={},
           processor=("PerceptionLMProcessor", {}), pictures=("PerceptionLMImageProcessor", {})),
    Family("GOT-OCR2", "got_ocr2", refused="Nested images are only supported", example="stepfun-ai/GOT-OCR-2.0-hf",
           config=dict(vision_config=dict(hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4, image_size=256, patch_size=4,
                                          window_size=8, global_attn_indexes=[], mlp_dim=48), text_config=dict(model_type="qwen2", **TEXT),
                       image_token_index="<imgpad>", image_seq_length=256, tie_word_embeddings=False),
           processor=("GotOcr2Processor", {}), pictures=("GotOcr2ImageProcessorPil", fixed(256)),
           tokens=dict(image_token="<imgpad>", eos_token="<|im_end|>"), marks=("<img>", "</img>", "<|im_start|>"),
           template=("<|im_start|>user\n", "<img>{image}</img>\n", *CHATML[2:])),
    Family("Video-LLaVA", "video_llava", example="LanguageBind/Video-LLaVA-7B-hf",
           config=dict(vision_config=clip(48, 8), text_config=dict(model_type="llama", **TEXT), image_token_index="<image>",
                       video_token_index="<video>", image_seq_length=36, vision_feature_layer=-1, tie_word_embeddings=False),
           processor=("VideoLlavaProcessor", dict(patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)),
           pictures=("VideoLlavaImageProcessor", crop(48)), tokens=dict(image_token="<image>", video_token="<video>")),
    Family("LLaVA-NeXT-Video", "llava_next_video", example="llava-hf/LLaVA-NeXT-Video-7B-hf",
           config=dict(vision_config=clip(32, 8), text_config=dict(model_type="llama", **TEXT), image_token_index="<image>", video_token_index="<video>",
                       image_grid_pinpoints=PINPOINTS, vision_feature_layer=-1, tie_word_embeddings=False),
           processor=("LlavaNextVideoProcessor", dict(patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1)),
           pictures=("LlavaNextImageProcessorPil", dict(image_grid_pinpoints=PINPOINTS, **crop(32))),
           tokens=dict(image_token="<image>", video_token="<video>")),
    Family("Gemma 4", "gemma4", gain=0.5, example="google/gemma-4-E4B-it",
           config=dict(vision_config=dict(pooling_kernel_size=3, patch_size=4, position_embedding_size=256, head_dim=8, num_key_value_heads=4, **TOWER),
                       text_config=TEXT | dict(sliding_window=64, layer_types=["sliding_attention", "full_attention"], vocab_size_per_layer_input="VOCABULARY",
                                        hidden_size_per_layer_input=8, final_logit_softcapping=30.0), image_token_id="<|image|>", boi_token_id="<|image>",
                       eoi_token_id="<image|>", video_token_id="<|video|>", audio_token_id="<|audio|>", audio_config=None, tie_word_embeddings=False),
           processor=("Gemma4Processor", dict(image_seq_length=70)),
           pictures=("Gemma4ImageProcessorPil", dict(patch_size=4, max_soft_tokens=70, pooling_kernel_size=3)),
           tokens=dict(image_token="<|image|>", boi_token="<|image>", eoi_token="<image|>", audio_token="<|audio|>", boa_token="<|audio>",
                       eoa_token="<audio|>"), marks=("<|video|>", "<|turn>", "<turn|>"),
           template=("<|turn>user\n", "{image}", "{text}<turn|>\n<|turn>model\n", "{text}<turn|>\n")),
    Family("Llama 3.2 Vision", "mllama", example="meta-llama/Llama-3.2-11B-Vision-Instruct", place=False,
           config=dict(vision_config=dict(hidden_size=32, num_hidden_layers=2, num_global_layers=1, attention_heads=4, intermediate_size=48, image_size=32,
                                          patch_size=8, vision_output_dim=64, intermediate_layers_indices=[0], max_num_tiles=4),
                       text_config=TEXT | dict(num_hidden_layers=3, cross_attention_layers=[1], rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
                       image_token_index="<|image|>", tie_word_embeddings=False),
           processor=("MllamaProcessor", {}), pictures=("MllamaImageProcessorPil", dict(max_image_tiles=4, **fixed(32))),
           tokens=dict(image_token="<|image|>"), marks=("<|python_tag|>",)),
    Family("InstructBLIP", "instructblip", example="Salesforce/instructblip-vicuna-7b", place=False, alone=True,
           config=dict(vision_config=dict(image_size=32, patch_size=8, **TOWER), text_config=dict(model_type="llama", **TEXT), num_query_tokens=8,
                       qformer_config=dict(vocab_size="VOCABULARY", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                                           encoder_hidden_size=32, max_position_embeddings=512), image_token_index="<image>", tie_word_embeddings=False),
           processor=("InstructBlipProcessor", dict(num_query_tokens=8)), pictures=("BlipImageProcessorPil", fixed(32)),
           marks=("<image>",), template=()),
    Family("BLIP-2", "blip-2", example="Salesforce/blip2-opt-2.7b", place=False, alone=True,
           config=dict(vision_config=dict(image_size=32, patch_size=8, **TOWER), text_config=dict(
                           model_type="opt", vocab_size="VOCABULARY", hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                           word_embed_proj_dim=32, max_position_embeddings=512, bos_token_id="BOS", eos_token_id="EOS", pad_token_id="PAD",
                           tie_word_embeddings=False), num_query_tokens=8,
                       qformer_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, encoder_hidden_size=32),
                       image_token_index="<image>", tie_word_embeddings=False),
           processor=("Blip2Processor", dict(num_query_tokens=8)), pictures=("BlipImageProcessorPil", fixed(32)),
           marks=("<image>",), template=()),
    Family("Qwen3-VL-MoE", "qwen3_vl_moe", example="Qwen/Qwen3-VL-30B-A3B-Instruct",
           config=dict(vision_config=qwen_tower(hidden_size=32, intermediate_size=48, out_hidden_size=32, num_position_embeddings=64,
                                                deepstack_visual_indexes=[0]), text_config=TEXT | MROPE | MOE, **QWEN_IDS),
           processor=("Qwen3VLProcessor", {}), pictures=QWEN_PICTURES, tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("GLM-4.5V", "glm4v_moe", gain=0.5, example="zai-org/GLM-4.5V", config=dict(
               vision_config=dict(depth=2, hidden_size=32, num_heads=4, image_size=48, patch_size=8, out_hidden_size=32, intermediate_size=48,
                                  spatial_merge_size=2), text_config=TEXT | dict(
                                      rope_parameters=MROPE["rope_parameters"] | dict(partial_rotary_factor=1.0), moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1,
                                      first_k_dense_replace=1), **GLM_IDS),
           processor=("Glm4vProcessor", {}), pictures=("Glm4vImageProcessorPil", GLM_PICTURES), tokens=GLM_TOKENS, marks=GLM_MARKS, template=GLM_CHAT),
    Family("VideoLLaMA 3", "video_llama_3", example="lkhl/VideoLLaMA3-2B-Image-HF",
           config=dict(vision_config=dict(patch_size=8, **TOWER), text_config=dict(model_type="qwen2", **TEXT), image_token_id="<|image_pad|>",
                       video_token_id="<|video_pad|>", tie_word_embeddings=False),
           processor=("VideoLlama3Processor", {}), pictures=("VideoLlama3ImageProcessorPil", dict(patch_size=8, merge_size=1, size={
               "shortest_edge": 32 * 32, "longest_edge": 64 * 64})), tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
    Family("Qianfan-OCR", "qianfan_ocr", example="baidu/Qianfan-OCR",
           config=dict(vision_config=dict(image_size=[32, 32], patch_size=[4, 4], **TOWER), text_config=dict(model_type="qwen3", **TEXT),
                       image_token_id="<IMG_CONTEXT>", image_seq_length=16, downsample_ratio=0.5, tie_word_embeddings=False),
           processor=("QianfanOCRProcessor", dict(image_seq_length=16)),
           pictures=("GotOcr2ImageProcessorPil", dict(crop_to_patches=True, min_patches=1, max_patches=6, **fixed(32))),
           tokens=dict(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", placeholder="<image>",
                       eos_token="<|im_end|>"), marks=("<|im_start|>",), template=CHATML),
    Family("LLaVA-Interleave", "llava", example="llava-hf/llava-interleave-qwen-0.5b-hf",
           config=dict(vision_config=siglip(48, 8), text_config=dict(model_type="qwen2", **TEXT), image_token_index="<image>",
                       vision_feature_select_strategy="full", vision_feature_layer=-1, image_seq_length=36, tie_word_embeddings=False),
           processor=("LlavaProcessor", dict(patch_size=8, vision_feature_select_strategy="full", num_additional_image_tokens=0)),
           pictures=("SiglipImageProcessorPil", fixed(48)), tokens=dict(image_token="<image>", eos_token="<|im_end|>"), marks=("<|im_start|>",),
           template=CHATML),
    Family("ERNIE-4.5-VL", "ernie4_5_vl_moe", example="baidu/ERNIE-4.5-VL-28B-A3B-PT",
           config=dict(vision_config=dict(depth=2, hidden_size=32, num_heads=4, patch_size=8, intermediate_size=48),
                       text_config=TEXT | dict(moe_intermediate_size=[32, 32], moe_k=2, moe_num_experts=4, moe_num_shared_experts=1,
                                               rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}),
                       image_token_id="<|IMAGE_PLACEHOLDER|>", image_start_token_id="<|IMAGE_START|>", image_end_token_id="<|IMAGE_END|>",
                       video_token_id="<|VIDEO_PLACEHOLDER|>", video_start_token_id="<|VIDEO_START|>", video_end_token_id="<|VIDEO_END|>",
                       tie_word_embeddings=False),
           processor=("Ernie4_5_VLMoeProcessor", {}),
           pictures=("Ernie4_5_VLMoeImageProcessorPil", dict(patch_size=8, merge_size=2, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})),
           tokens=dict(image_token="<|IMAGE_PLACEHOLDER|>", image_start_token="<|IMAGE_START|>", image_end_token="<|IMAGE_END|>",
                       video_token="<|VIDEO_PLACEHOLDER|>", video_start_token="<|VIDEO_START|>", video_end_token="<|VIDEO_END|>"),
           template=("User: ", "<|IMAGE_START|>{image}<|IMAGE_END|>", "{text}\nAssistant: ", "{text}</s>")),
    Family("Florence-2", "florence2", example="florence-community/Florence-2-base", refused="could not find its",
           config=dict(vision_config=dict(embed_dim=[8, 16], depths=[1, 1], num_heads=[2, 2], num_groups=[2, 2], patch_size=[7, 3], patch_stride=[4, 2],
                                          patch_padding=[3, 1], patch_prenorm=[False, True], window_size=4, projection_dim=32),
                       text_config=dict(model_type="bart", vocab_size="VOCABULARY", d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=48,
                                        decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4, bos_token_id="BOS", eos_token_id="EOS",
                                        pad_token_id="PAD"), image_token_id="<image>", tie_word_embeddings=False),
           processor=("Florence2Processor", dict(num_additional_image_tokens=1)), pictures=("CLIPImageProcessorPil", crop(48)),
           tokens=dict(image_token="<image>")),
)
