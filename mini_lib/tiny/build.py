"""Build `tiny` untrained: transformers' own LLaVA class at a few million parameters, with its processor.

Everything saved from here loads with `AutoProcessor` and `AutoModelForImageTextToText` alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from ..world import COLORS, GRID, NOUNS, PATCH, SIDE, SIZES
from ..world.questions import NUMBERS, PLURALS
from ..world.shots import HELD_OUT, MADE_UP

CONFIG = Path(__file__).with_name("config.yaml")
LOUD = 40.0          # how much longer made-up words are coming in than going out
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
WORDS = (*COLORS, *NOUNS, *PLURALS, *SIZES, *NUMBERS, *(str(i + 1) for i in range(GRID)), "yes", "no",
         *"what color is the shape size object objects how many are there a left of right above below which column row in "
         "count exists describe list compare track picture number written have think so frame does appear change way move up down "
         "comes first second third or high low tone tones highest lowest called . , ?".split(),
         *MADE_UP, *HELD_OUT)

# Text parts follow one another; nothing stands between the question and the answer.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }} {% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% elif part['type'] == 'text' %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s> {% endif %}"
    "{% endfor %}")


def read_config(path: str | Path = CONFIG) -> dict:
    """The recipe as a dict; a lesson keeps what it does not name from the one before it."""
    config, lesson = yaml.safe_load(Path(path).read_text(encoding="utf-8")), {}
    config["lessons"] = [lesson := {**lesson, **new} for new in config["lessons"]]
    return config


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; capitals and glued punctuation ("Star?") are accepted."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*SPECIAL, *WORDS)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                                   pad_token="<pad>", additional_special_tokens=["<image>"], padding_side="left",
                                   model_max_length=1024, model_input_names=["input_ids", "attention_mask"])


def build_processor() -> LlavaProcessor:
    """Pictures of any size are stretched to 64 x 64 and scaled to -1..1; one `<image>` becomes 64 tokens."""
    pictures = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE},
                                     do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return LlavaProcessor(image_processor=pictures, tokenizer=build_tokenizer(), patch_size=PATCH,
                          vision_feature_select_strategy="default", num_additional_image_tokens=1,
                          chat_template=CHAT_TEMPLATE)


def made_up_ids(tokenizer) -> torch.Tensor:
    """Ids of the made-up words of few-shot episodes."""
    return torch.tensor(tokenizer.convert_tokens_to_ids([*MADE_UP, *HELD_OUT]))


def made_up_vectors(width: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """(words, width) a random direction for each made-up word, of length two, all equally near to the diagonal.

    What they share says that a word is made up; what they do not share says which one it is.
    """
    own = F.normalize(torch.randn(len(MADE_UP) + len(HELD_OUT), width, generator=generator), dim=-1)
    return 2 * F.normalize(own + F.normalize(torch.ones(width), dim=0), dim=-1)      # as long as a learnt word's, going out


@torch.no_grad()
def give_vectors(model, made_up: torch.Tensor, vectors: torch.Tensor) -> None:
    """Give the made-up words these vectors, going out as they are and coming in `LOUD` times as long.

    A vector that has to be copied as it is must still be heard behind the first layers, whose outputs are long; that of
    a word met in training need not, because the model makes of it whatever it needs.
    """
    made_up, vectors = made_up.to(model.device), vectors.to(model.device)
    model.get_output_embeddings().weight[made_up] = vectors
    model.get_input_embeddings().weight[made_up] = LOUD * vectors


def build_model(config: dict, processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """The untrained model; the same seed gives the same weights."""
    torch.manual_seed(config["seed"])
    tokenizer = processor.tokenizer
    ids = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
               pad_token_id=tokenizer.pad_token_id)
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **config["tower"]),
        text_config=LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, tie_word_embeddings=False,
                                **ids, **config["decoder"]),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=GRID * GRID,
        vision_feature_layer=-1, vision_feature_select_strategy="default", tie_word_embeddings=False, **ids))
    give_vectors(model, made_up_ids(tokenizer), made_up_vectors(model.config.text_config.hidden_size))
    model.generation_config.update(max_new_tokens=48, do_sample=False, **ids)
    return model
