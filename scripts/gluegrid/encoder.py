"""A staged model's tokenizer: texts to token ids, truncated as run_glue.py does."""

from functools import cached_property
from pathlib import Path

import tokenizers

from gluegrid.common.errors import DataError, in_one_line
from gluegrid.common.escaping import listed
from gluegrid.common.files import read_json
from gluegrid.examples import Examples

LONG = 4  # characters for each token that truncation keeps: pairs with a longer text are shortened first
SPARE_TOKENS = 128  # which a cut through a word may change; WordPiece gives a word at most 100


class Encoder:
    """Encodes as transformers' tokenizers do with `truncation=True`, which cuts the longer text of a pair first."""

    def __init__(self, tokenizer_manifest: Path, max_length: int):
        self.path = tokenizer_manifest.parent / read_json(tokenizer_manifest)["tokenizer"]["file"]
        self.max_length = max_length
        self.tokenizer = tokenizers.Tokenizer.from_file(str(self.path))
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")

    def encode(self, examples: Examples) -> list[tokenizers.Encoding]:
        """Return the tokens of each example. Raises DataError with file, columns and row."""
        try:
            return self.tokenizer.encode_batch(self._inputs(examples.texts))
        except BaseException as error:
            # The library raises Exception itself, and its panics are not even that.
            if type(error) is not Exception and type(error).__name__ != "PanicException":
                raise
            if len(examples) > 1:
                for row in range(len(examples)):
                    self.encode(examples.only(row))
            raise DataError(
                f"{examples.file}: the tokenizer cannot take {listed(examples.text_columns)} in row"
                f" {examples.first_row}: {in_one_line(error)}"
            ) from error

    def _inputs(self, texts: list[list[str]]) -> list[str] | list[tuple[str, str]]:
        if len(texts) == 1:
            return texts[0]
        return [self._shortened_pair(first, second) for first, second in zip(*texts, strict=True)]

    def _shortened_pair(self, first: str, second: str) -> tuple[str, str]:
        """Return a pair of texts that gives the same tokens, in a time that does not grow with their product.

        Of what truncation cuts off two texts, the library makes every combination. Besides the tokens that are kept,
        truncation looks only at which of the texts has more, so that one must stay the longer one.
        """
        if max(len(first), len(second)) <= LONG * self.max_length:
            return first, second
        texts, whole = [first, second], [self._all_tokens(first), self._all_tokens(second)]
        longer = 0 if len(whole[0]) > len(whole[1]) else 1
        more_than = self.max_length
        for number in (1 - longer, longer):
            texts[number], tokens = self._shortened(texts[number], whole[number], more_than)
            more_than = max(more_than, tokens)
        return texts[0], texts[1]

    def _shortened(self, text: str, whole: tokenizers.Encoding, more_than: int) -> tuple[str, int]:
        """Return the beginning of a text that has more than so many tokens, and how many; else the text itself."""
        place = more_than + SPARE_TOKENS
        if len(whole) > place:
            beginning = text[: whole.offsets[place][0]]
            tokens = self._all_tokens(beginning)
            is_same = tokens.ids[: self.max_length] == whole.ids[: self.max_length]
            if is_same and more_than < len(tokens) <= len(whole):
                return beginning, len(tokens)
        return text, len(whole)

    def _all_tokens(self, text: str) -> tokenizers.Encoding:
        return self._untruncated.encode(text, add_special_tokens=False)

    @cached_property
    def _untruncated(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_file(str(self.path))
