#!/bin/sh
# Runs C test programs, prints the closing line of each and the sum of all. The whole output
# of a program is shown when it fails. A program that ends with status 77 was skipped and says
# why. Status 1 when one failed.
passed=0 failed=0 skipped=0
export OPENBLAS_NUM_THREADS=1 # our own workers call it
for program in "$@"; do
    output=$(timeout "${FACS_TEST_SECONDS:-600}" env ${FACS_TEST_PRELOAD:+"LD_PRELOAD=$FACS_TEST_PRELOAD"} "$program" 2>&1)
    status=$?
    last=$(printf '%s\n' "$output" | tail -n 1)
    if [ $status -eq 77 ]; then
        printf '%s\n' "$last"
        skipped=$((skipped + 1))
        continue
    fi
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
summary="C tests: $passed passed, $failed failed"
if [ "$skipped" -gt 0 ]; then summary="$summary, $skipped skipped"; fi
echo "$summary"
[ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
