#!/usr/bin/env bash
# packages.sh STAGE...         install the missing Debian packages of these stages, quiet if none is
# packages.sh --list STAGE...  print the names of the packages of these stages
source "$(dirname "$0")/lib.sh"

list_only=
[ "${1-}" = --list ] && { list_only=1; shift; }
mapfile -t wanted < <(sed 's/#.*//' "$root/packages.txt" | awk -v stages=" $* " '
  NF { if (index(stages, " " (NF > 1 ? $2 : "build") " ")) print $1 }')
[ -n "$list_only" ] && { echo "${wanted[*]}"; exit 0; }
[ ${#wanted[@]} -gt 0 ] || exit 0

if ! command -v dpkg-query >/dev/null; then
  say "not a Debian system; the build needs what these packages hold: ${wanted[*]}"
  exit 0
fi
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
  <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
    sed -n 's/^installed //p' | sort -u))
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=(sudo)
  else
    die "these packages are missing, and installing them needs root or sudo: ${missing[*]}"
  fi
fi
say "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=600 "$@" >>"$log" 2>&1
}
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
  tail -n 20 "$log" >&2
  die "apt-get failed; install by hand: ${missing[*]}"
fi
