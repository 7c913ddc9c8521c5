"""A real tokenizer small enough to train in a test: byte-level BPE on a few sentences, nothing downloaded."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"

SENTENCES = (
    "Customer message: How do I top up my card?\nIntent: top up by card",
    "Question: A robe takes 2 bolts of blue fiber and half that much white fiber.\nAnswer: 3",
    "user\nassistant\nsystem\nYou are a helpful assistant.",
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_tokenizer(
    *,
    vocab_size: int = 320,
    bos: bool = False,
    eos: bool = True,
    pad_is_eos: bool = False,
    chat_template: str | None = None,
    prefix_space: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer that can spell any text (all 256 bytes are in its vocabulary).

    Args:
        vocab_size: tokens in all, at least 256 and the special ones.
        bos: whether the tokenizer puts a beginning-of-sequence token first by itself.
        eos: whether it has an end-of-sequence token.
        pad_is_eos: whether padding and end share a token.
        chat_template: a Jinja template such as `CHATML`.
        prefix_space: whether every text gets a space before it, as in the Llama 2 family.
    """
    special = [token for token, wanted in ((BOS, True), (EOS, eos), (PAD, not pad_is_eos)) if wanted]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if bos:
        _put_bos_first(tokenizer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS if eos else None,
        pad_token=EOS if pad_is_eos else PAD,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = chat_template
    return fast


def build_tiny_sentencepiece(*, bos: bool = False, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of the Llama 2 kind: "▁" for spaces and before every text, bytes for what it has no token for.

    Args:
        bos: whether the tokenizer puts a beginning-of-sequence token first by itself.
        chat_template: a Jinja template such as `CHATML`.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    special = ["<unk>", BOS, EOS, PAD, "<|im_start|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if bos:
        _put_bos_first(tokenizer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = chat_template
    return fast


def _put_bos_first(tokenizer: Tokenizer) -> None:
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos_id)])
