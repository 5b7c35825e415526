"""Run a demo, and make from it the README's two pictures and docs/demo_results.md."""

import argparse
import io
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PROJECT = Path(__file__).resolve().parents[1]
COLUMNS = 80
PAGE = (1280, 1260)  # pixels of the report, down to its two figures


def main() -> None:
    """Run the demo in a fresh clone, and write all three."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "gluegrid"
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        (clone / ".venv").symlink_to(PROJECT / ".venv")
        told = output_of(clone, "make", "--old-file=.venv/installed", "demo")
        demo = ("--profile", "profiles/local", "--configfile", "demo/config.yaml")
        output_of(clone, ".venv/bin/snakemake", "compare", *demo)
        output_of(clone, ".venv/bin/snakemake", "report", *demo)
        (PROJECT / "docs/terminal.svg").write_text(terminal(told), encoding="utf-8")
        shutil.copy(clone / "results/demo/results.md", PROJECT / "docs/demo_results.md")
        take_page(clone / "results/demo/report.html", PROJECT / "docs/report.png")


def output_of(folder: Path, *command: str) -> str:
    """Return what a command says where nobody watches its terminal."""
    # Inside `make pictures`, another make would name the folders that it enters.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment["COLUMNS"] = str(COLUMNS)
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def terminal(told: str) -> str:
    """Return the SVG of a terminal in which `make demo` was called."""
    lines = ["$ make demo", *told.strip().splitlines()]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in lines:
        console.print(Text.from_ansi(line))
    drawing = console.export_svg(title="gluegrid", theme=MONOKAI, unique_id="terminal")
    # Fonts of a server: the reader's own do.
    return re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)


def take_page(page: Path, picture: Path) -> None:
    """Write the first screen of a page, as Chromium shows it, into a PNG."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium: is not installed; it takes the picture of the report")
    size = "--window-size={},{}".format(*PAGE)
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={picture}"]
    subprocess.run([browser, *flags, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
