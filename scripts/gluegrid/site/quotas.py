"""The user's disk quotas, as far as `quota` and Lustre's `lfs quota` report them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gluegrid.common.files import size_in_words
from gluegrid.site.findings import Finding, fault, note, ok
from gluegrid.site.node_report import kind_of_file_system

SECONDS = 20  # the quota server may be down
NEARLY = 0.9
# File system, then for kB and again for files: used, soft limit, hard limit, grace. A star marks an exceeded limit.
USED = r"\s+\[?(\d+)\]?\*?\s+(\d+)\s+(\d+)\s+(\S+)"
ROW = re.compile(rf"^\s*(\S+){USED}{USED}\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Quota:
    """What a user has used of a quota, in kB or in files."""

    file_system: str
    unit: str
    used: int
    limit: int

    def finding(self) -> Finding:
        """Report how much is left."""
        used, limit = self._in_words(self.used), self._in_words(self.limit)
        what = f"quota of {self.file_system}: {used} of {limit} used"
        if self.used >= self.limit:
            return fault(what, "free some space before you train, with make disk and make clean-state")
        if self.used >= NEARLY * self.limit:
            return note(what, "it is nearly full: free some with make disk and make clean-state")
        return ok(what)

    def _in_words(self, count: int) -> str:
        return size_in_words(count * 1024) if self.unit == "kB" else f"{count:,} files"


def quota_findings(folders: list[Path], user: str) -> Iterator[Finding]:
    """Report each of the user's quotas."""
    answers = [_said("quota", "--no-wrap", "--raw-grace")]
    of_lustre = {_mount_of(folder): folder for folder in folders if kind_of_file_system(str(folder)) == "lustre"}
    answers += [_said("lfs", "quota", "-q", "-u", user, mount) for mount in of_lustre]
    for quota in quotas_in("\n".join(answers)):
        yield quota.finding()


def quotas_in(answer: str) -> list[Quota]:
    """Return the quotas in the output of `quota` or `lfs quota -q`, where a long name takes a line of its own."""
    found = []
    for row in ROW.finditer(answer):
        name, *numbers = row.groups()
        for unit, (used, soft, hard) in (("kB", numbers[:3]), ("files", numbers[4:7])):
            if limit := int(soft) or int(hard):
                found.append(Quota(name, unit, int(used), limit))
    return found


def _said(*command: str) -> str:
    """Return a program's output, whatever its exit code: `quota` exits with 1 when a limit is exceeded."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _mount_of(folder: Path) -> str:
    """Return the mount point of a folder's file system."""
    real = folder.resolve()
    return str(next(parent for parent in (real, *real.parents) if parent.is_mount()))
