"""Guess the encoding of a text that is not UTF-8. Guesses serve advice only; no file is read by one."""

import codecs
import re


def likely_encoding(content: bytes) -> str | None:
    """Return the encoding, other than UTF-8, in which bytes were probably written; None if none is clearly likely."""
    if 0 in content:
        zeros = [content[place::2].count(0) for place in (0, 1)]
        return ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le") if min(zeros) * 10 < max(zeros) else None
    for name, is_likely in (("gb18030", _is_chinese), ("cp1252", _is_western)):
        text = _decoded(content, name)
        if text is not None and is_likely(content, text):
            return name
    return None


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content)  # the sample may end within a character
    except UnicodeDecodeError:
        return None


def _is_chinese(content: bytes, _text: str) -> bool:
    """Tell whether most pairs of bytes are frequent characters of GB 2312, spread as in no similar encoding."""
    pairs = re.findall(rb"[\xa1-\xf7][\xa1-\xfe]", content)
    other = len(re.findall(rb"[\x80-\xff]", content)) - 2 * len(pairs)
    frequent = [pair for pair in pairs if 0xB0 <= pair[0] <= 0xD7 or pair[0] in (0xA1, 0xA3)]
    beyond_korean = sum(pair[0] > 0xC8 for pair in pairs)
    beyond_cyrillic = sum(pair[1] < 0xC0 for pair in pairs)
    is_spread = beyond_korean * 10 >= len(pairs) and beyond_cyrillic * 10 >= len(pairs)
    return bool(pairs) and other * 10 <= len(pairs) and len(frequent) * 10 >= 7 * len(pairs) and is_spread


# Without those whose bytes are frequent letters in other European encodings (Turkish, Czech, Polish).
WESTERN = set("àáâãäåæçèéêëìíîïñòóôõöøùúûüßœÿÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ‘’“”„‚‹›«»–—…•€£§°©®™´·¿¡ªº½¼¾×²\xa0")


def _is_western(content: bytes, text: str) -> bool:
    """Tell whether all non-ASCII characters are Western European and mostly stand alone, as accented letters do."""
    strange = [letter for letter in text if not letter.isascii()]
    runs = re.findall(rb"[\x80-\xff]+", content)
    alone = sum(len(run) <= 2 for run in runs)
    return bool(strange) and set(strange) <= WESTERN and alone * 10 >= 9 * len(runs)
