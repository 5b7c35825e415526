"""Write the table of training options in docs/config.md, between two comments, from their declarations."""

import argparse
import json
from pathlib import Path

from gluegrid.experiment.option import Option
from gluegrid.experiment.options import OPTIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
BEGIN = "<!-- from the declarations in scripts/gluegrid/experiment/options.py; `make docs` writes it -->\n"
END = "<!-- end of what `make docs` writes -->\n"


def main() -> None:
    """Rewrite the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """Return the page with the table of the declared options."""
    before, _, rest = page.partition(BEGIN)
    rows = (f"| `{key}` | {_default(option)} | {_sentence(option.docs)} |" for key, option in OPTIONS.items())
    table = "\n".join(["| Key | Default | Description |", "|---|---|---|", *rows])
    *most, last = (f"`{key}`" for key, option in OPTIONS.items() if not option.is_swept)
    lists = f"Each may be a list of values to try ([Sweeps](#sweeps)), except\n{', '.join(most)} and {last}."
    return f"{before}{BEGIN}\n{table}\n\n{lists}\n\n{END}{rest.partition(END)[2]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _default(option: Option) -> str:
    if option.docs_default is not None or option.default is None:
        return option.docs_default or "-"
    value = option.default if isinstance(option.default, str) else json.dumps(option.default)
    return f"`{value.replace('e-0', 'e-')}`"  # 2e-5, as people write it


if __name__ == "__main__":
    main()
