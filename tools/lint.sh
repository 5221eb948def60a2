#!/bin/sh
# Formatting, ruff, mypy and the checks in tools/; with the argument "fix" formats instead.
# A tool that is not installed is named and skipped. Status 1 when something is found.
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
status=0

sources=$(find csrc tests benchmarks \( -name '*.c' -o -name '*.h' -o -name '*.inc' -o -name '*.cu' -o -name '*.cc' \) 2>/dev/null)
# Another version of clang-format formats differently.
formatter=
for candidate in "$(dirname "$python")/clang-format" clang-format-14 clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then formatter=$candidate; break; fi
done

if [ "${1:-}" = fix ]; then
    if [ -n "$formatter" ]; then "$formatter" -i $sources; fi
    "$python" -m ruff check --fix -q . ; "$python" -m ruff format -q .
    exit
fi

step() {
    name=$1
    shift
    if output=$("$@" 2>&1); then echo "$name: fine"; else
        printf '%s\n%s: found something\n' "$output" "$name"
        status=1
    fi
}

has() { "$python" -c "import $1" >/dev/null 2>&1 || { echo "$1: not installed, skipped"; false; }; }

if [ -n "$formatter" ]; then step clang-format "$formatter" --dry-run -Werror $sources
else echo "clang-format 14: not installed, skipped"; fi
if has ruff; then
    step ruff "$python" -m ruff check -q --output-format concise .
    step "ruff format" "$python" -m ruff format --check -q --output-format concise .
fi
if has mypy; then
    step mypy "$python" -m mypy --strict
fi
step layers "$python" tools/check_layers.py
step headers "$python" tools/check_headers.py
step names "$python" tools/check_names.py
exit $status
