"""A small tokenizer for aiperf, made of this repository's texts: `python tokenizer.py FOLDER`, with aiperf's Python.

Any would do: it only makes prompts of a length in tokens, and no hub need be asked.
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1]).save_pretrained(
        sys.argv[1]
    )


if __name__ == "__main__":
    main()
