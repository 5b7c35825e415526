"""How messages show what a user wrote: quoted, shortened, and odd characters by their names."""

import json
import unicodedata

LONGEST_VALUE = 60
NAMELESS = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Co": "a character of private use",
    "Cn": "no character of Unicode",
}


def quoted(value: object) -> str:
    """Return a value as it would be written, shortened if it is long."""
    return shortened(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return a text cut to `longest` characters, the last three of which then say so."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def lookalike(text: object) -> str:
    """Name the first character of a text that no English keyboard has; '' if there is none."""
    if not isinstance(text, str):
        return ""
    places = (place for place, character in enumerate(text) if not (character.isascii() and character.isprintable()))
    place = next(places, None)
    return "" if place is None else character_at(text, place)


def character_at(text: str, place: int) -> str:
    """Return, such as "character 2 is 'a', LATIN SMALL LETTER A", what stands at a place of a text, counted from 0."""
    return f"character {place + 1} is {named(text[place])}"


def named(character: str) -> str:
    """Return a character, or its number if it cannot be seen alone, and its Unicode name."""
    kind = unicodedata.category(character)
    name = unicodedata.name(character, NAMELESS.get(kind, "a character without a name"))
    is_visible = character.isprintable() and not kind.startswith("M")
    return f"{repr(character) if is_visible else f'U+{ord(character):04X}'}, {name}"
