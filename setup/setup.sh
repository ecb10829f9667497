#!/usr/bin/env bash
# setup.sh STAGE...: everything that a stage needs and that is not there yet; at once when all is.
# build: packages, LibTorch, the embedded model. test: the peers and the second model too. bench:
# llama.cpp too. second-model: that alone.
#
# TORCH_DIR=DIR uses that LibTorch 2.11.0; an installed Python torch 2.11.0 is used too.
# KVTOOLS_KEEP_DOWNLOADS=1 leaves them for a stage to come.
# KVTOOLS_CUDA=1 or 0 fetches the CUDA part of LibTorch or not; else a driver's presence decides.
source "$(dirname "$0")/lib.sh"
set -E
trap 'say "stopped by a failure in ${BASH_SOURCE[0]##*/}, line $LINENO"' ERR
source "$root/setup/torch.sh"
source "$root/setup/model.sh"
source "$root/setup/gemma3.sh"
source "$root/setup/peers.sh"

steps=()
for stage in "$@"; do
  case $stage in
    build) steps+=(torch model) ;;
    test) steps+=(peers gemma3) ;;
    bench) steps+=(llama_cpp) ;;
    second-model) steps+=(gemma3) ;;
    *) die "unknown stage '$stage'; there are build, test, bench and second-model" ;;
  esac
done

"$root/setup/packages.sh" "$@"
todo=()
for step in "${steps[@]}"; do
  "${step}_ready" || todo+=("$step")
done
[ ${#todo[@]} -gt 0 ] || exit 0

mkdir -p "$deps"
exec 9>"$deps/.lock"
flock -n 9 || { say "another set-up is running in this folder; waiting for it"; flock 9; }
for step in "${todo[@]}"; do
  "${step}_ready" || "${step}_make"
done
# Only now: the peers install torch from the wheel of LibTorch.
[ -n "${KVTOOLS_KEEP_DOWNLOADS-}" ] || rm -rf "$deps/downloads"
