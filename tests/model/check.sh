#!/bin/bash
# check.sh BUILD: exhausts failover.pml, then takes one rule away after the other and expects a violation of each.
# Ends with "N passed, N failed". What was found stays in BUILD/<switch>/ (failover.pml.trail, replayed by
# `spin -t -p -DSWITCH failover.pml`).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$1
mkdir -p "$build"

# The whole, then what the head of failover.pml lists: "NAME   meaning" below the two lists' own sentences.
mapfile -t switches < <(sed -n 's/^ \*   \([A-Z]\{2,\}_[A-Z_]*\)  .*/\1/p' "$here/failover.pml")
[ "${#switches[@]}" -ge 10 ] || { echo "check.sh: no switches in failover.pml" >&2; exit 1; }

one() { # one SWITCH|-: prints a line that begins with ok or FAIL
    local switch=$1 dir="$build/$1" define=() expected=violation states
    if [ "$switch" = - ]; then
        dir="$build/all-rules" expected=none
    else
        define=("-D$switch")
    fi
    mkdir -p "$dir"
    cp "$here/failover.pml" "$dir/"
    cd "$dir"
    rm -f failover.pml.trail
    if ! { spin -a "${define[@]}" failover.pml && gcc -O1 -DSAFETY -DCOLLAPSE -DNOREDUCE -o pan pan.c; } >build.log 2>&1; then
        tail -20 build.log
        echo "FAIL  $switch: does not build"
        return
    fi
    # -E: that nothing more may happen is no fault. 4 GB would be far more than it needs.
    timeout 200 ./pan -E -m100000 -w24 >pan.log 2>&1 || true
    states=$(awk '/states, stored/ { print $1 }' pan.log)
    if ! grep -q '^State-vector' pan.log || grep -qE 'max search depth too small|out of memory' pan.log; then
        tail -20 pan.log
        echo "FAIL  $switch: the search did not end (${states:-?} states)"
    elif [ "$expected" = none ] && grep -q 'errors: 0' pan.log && ! grep -q 'Search not completed' pan.log; then
        echo "ok    with all rules: no violation in $states states"
    elif [ "$expected" = violation ] && grep -q 'assertion violated' pan.log; then
        echo "ok    $switch: $(case $switch in CAN_*) echo "it can" ;; *) echo "violated without this rule" ;; esac) ($states states)"
    else
        grep -E 'assertion|errors' pan.log || true
        echo "FAIL  $switch: expected $expected, see $dir/pan.log"
    fi
}
export -f one
export here build
build=$(cd "$build" && pwd)

results=$(printf '%s\n' - "${switches[@]}" | xargs -P "$(nproc)" -I{} bash -c 'set -euo pipefail; one {}')
echo "$results"
passed=$(grep -c '^ok ' <<<"$results" || true)
failed=$((1 + ${#switches[@]} - passed))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
