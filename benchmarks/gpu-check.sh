#!/usr/bin/env bash
# Check the GPU of a machine without a network, from a folder that `make gpu-bundle` has made:
#
#     bash gpu-check.sh            (OUT=folder: for what it writes; PRETEND=1: only the checks' code, on the CPU)
#
# Wheels of what this machine's Python lacks go into an environment of their own, which is removed in the end. It sees
# all packages of that Python, be it an environment too, which --system-site-packages would not.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
unset PYTHONPATH PYTHONHOME
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT

"$python" -m venv --without-pip "$environment"
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import sys; [print(f"import site; site.addsitedir({p!r})") for p in sys.path if p.endswith("-packages")]' \
    > "$packages/packages-of-this-machine.pth"
missing=$("$environment/bin/python" - "$here/wheels/wanted.txt" <<'END'
import sys
from importlib import metadata
for pin in open(sys.argv[1]).read().split():
    try:
        metadata.version(pin.split("==")[0])
    except metadata.PackageNotFoundError:
        print(pin)
END
)
if [[ -n $missing ]]; then
    # shellcheck disable=SC2086 # one word for each package
    "$python" -m pip --isolated install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
        --find-links "$here/wheels" --target "$packages" $missing
fi

options=(--out "${OUT:-$PWD/gpu-check}")
if [[ ${PRETEND:-} == 1 ]]; then options+=(--pretend); fi
for name in data tokenizer; do
    if [[ -d $here/$name ]]; then options+=("--$name" "$here/$name"); fi
done
"$environment/bin/python" "$here/gluegrid/benchmarks/gpu_check.py" "${options[@]}" "$@"
