"""BERTs of the usual sizes with random weights."""

import shutil
from pathlib import Path

# Layers, hidden size, attention heads. The feed-forward layers are four times as wide.
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "minilm": (6, 384, 12),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
SEED = 0


def random_model(folder: Path, size: str, tokenizer: Path, dropout: float = 0.1) -> Path:
    """Save a BERT of a size with random weights and another model's tokenizer; return the folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    layers, hidden, heads = SIZES[size]
    vocabulary = len(AutoTokenizer.from_pretrained(tokenizer, local_files_only=True))
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    return folder
