#!/usr/bin/env bash
# check.sh [PRESET...]: set up, build and test; the last line counts the tests of all presets.
# Without arguments: ci (all tools, g++) and fuzz (clang, sanitizers, parsers for up to a minute).
source "$(dirname "$0")/lib.sh"
cd "$root"
[ $# -gt 0 ] || set -- ci fuzz

# What tests alone need, the peers and the second model, is fetched and unpacked beside the first
# build.
setup/packages.sh build test
KVTOOLS_KEEP_DOWNLOADS=1 setup/setup.sh build
setup/setup.sh test &
peers=$!
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
export UBSAN_OPTIONS=print_stacktrace=1 CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$(nproc)}

failed=0
results=()
run_tests() { # NAME OPTIONS: tests of $build
  local report=$build/$1.xml
  rm -f "$report"
  ctest --test-dir "$build" --output-on-failure --no-tests=error --output-junit "$report" "${@:2}" || failed=1
  results+=("$report")
}
for preset in "$@"; do
  build=$root/build
  [ "$preset" = release ] || build=$root/build-$preset
  began=$SECONDS
  cmake --preset "$preset" "${launcher[@]}" >"$build.log" || { cat "$build.log"; exit 1; }
  cmake --build "$build"
  say "$preset: built in $((SECONDS - began)) s"
  [ -z "$peers" ] || wait "$peers"
  peers=
  run_tests tests --exclude-regex '^fuzz\.run'
  # These end by the clock: with four a core they take a quarter as long, and try a quarter as much.
  [ "$preset" != fuzz ] || run_tests fuzzers --tests-regex '^fuzz\.run' --parallel $((4 * CTEST_PARALLEL_LEVEL))
done
"$python" - "${results[@]}" <<'PYTHON' || failed=1
import sys
import xml.etree.ElementTree as ElementTree
count = {"passed": 0, "failed": 0, "skipped": 0}
for file in sys.argv[1:]:
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        status, message = case.get("status"), case.find("skipped")
        if status == "run":
            outcome = "passed"
        elif status == "disabled" or message is not None and "SKIP_" in message.get("message"):
            outcome = "skipped"
        else:  # also a test whose program is not there
            outcome = "failed"
        count[outcome] += 1
        if outcome != "passed":
            print(f"{outcome}: {case.get('name')}")
print(", ".join(f"{number} {outcome}" for outcome, number in count.items()))
sys.exit(count["failed"] > 0 or count["passed"] == 0)
PYTHON
exit $failed
