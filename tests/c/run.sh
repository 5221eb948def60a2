#!/bin/sh
# Runs C test programs, prints the closing line of each and the sum of all. The whole output
# of a program is shown when it fails. Status 1 when one failed.
passed=0 failed=0
export OPENBLAS_NUM_THREADS=1 # our own workers call it
for program in "$@"; do
    output=$(timeout "${FACS_TEST_SECONDS:-600}" "$program" 2>&1)
    status=$?
    last=$(printf '%s\n' "$output" | tail -n 1)
    counts=$(printf '%s\n' "$last" | sed -n 's/.*[: ]\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p')
    if [ $status -eq 0 ] && [ -n "$counts" ] && [ "${counts#* }" -eq 0 ]; then
        printf '%s\n' "$last"
        passed=$((passed + ${counts% *}))
        continue
    fi
    printf '%s\n%s: exit status %d\n' "$output" "$program" "$status"
    if [ -n "$counts" ]; then
        passed=$((passed + ${counts% *}))
        failed=$((failed + ${counts#* }))
    fi
    if [ -z "$counts" ] || [ "${counts#* }" -eq 0 ]; then failed=$((failed + 1)); fi
done
echo "C tests: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
