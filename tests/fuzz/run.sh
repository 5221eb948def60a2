#!/bin/sh
# Runs every fuzzer of this folder for a number of seconds, from a corpus that grows in
# build/fuzz. Needs clang. Status 1 when one found something; its input is kept there too.
seconds=${1:-60}
python=${PYTHON:-python3}
cd "$(dirname "$0")/../.." || exit 1
if ! command -v clang >/dev/null 2>&1; then
    echo "make fuzz needs clang: apt-get install clang libomp-dev" >&2
    exit 1
fi
status=0
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    out=build/fuzz/$name
    mkdir -p "$out/corpus"
    maker=tests/fuzz/make_${name#fuzz_}_corpus.py
    if [ -f "$maker" ]; then "$python" "$maker" "$out/corpus" || exit 1; fi
    clang -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Icsrc \
        -o "$out/$name" "$source" $(find csrc/core csrc/image csrc/metric -name '*.c') -lm || exit 1
    if "$out/$name" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -print_final_stats=0 \
        -artifact_prefix="$out/" "$out/corpus" >"$out/log" 2>&1; then
        echo "$name: nothing found in $seconds seconds, $(find "$out/corpus" -type f | wc -l) inputs"
    else
        tail -n 40 "$out/log"
        echo "$name: found something, see $out"
        status=1
    fi
done
exit $status
