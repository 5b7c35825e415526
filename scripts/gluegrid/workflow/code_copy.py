"""Copy the code for the jobs of a call: they run what was planned, even if you edit it meanwhile."""

import hashlib
import shutil
import tempfile
from pathlib import Path

# The parts of the project that Snakemake's jobs and the start of a controller read.
PARTS = ("Snakefile", "rules", "scripts", "schemas", "references", "envs", "profiles/default")


def copy_code(project: Path, heads: Path) -> Path:
    """Return a folder below `heads` with a copy of the project's code; calls with the same code share one."""
    content = {name: (project / name).read_bytes() for name in _names(project)}
    target = heads.resolve() / f"code-{_hash(content)[:16]}"
    if not target.exists():
        _write(project, content, target)
    return target


def _names(project: Path) -> list[str]:
    chosen = []
    for part in PARTS:
        path = project / part
        files = path.rglob("*") if path.is_dir() else [path]
        chosen += [file for file in files if file.is_file() and "__pycache__" not in file.parts]
    return sorted(str(file.relative_to(project)) for file in chosen)


def _hash(content: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, text in content.items():
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _write(project: Path, content: dict[str, bytes], target: Path) -> None:
    """Write the whole copy or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary.chmod(0o755)
        for name, text in content.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(text)
            shutil.copymode(project / name, temporary / name)
        _take_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        if not target.exists():  # else another call has made the same copy meanwhile
            raise
