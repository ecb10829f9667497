#!/usr/bin/env bash
# profile.sh BUILD [LEVELS]: the embedded model's profiles (level 2, or a list such as 1,2,3,4) in
# .deps/profiles, where all tools find them, and the mixed texts that they are made from, which
# kvcalibrate takes for other models, in .deps/texts. At once when they are there; what is there of a
# run that was broken off is used.
source "$(dirname "$0")/lib.sh"
build=${1:?usage: setup/profile.sh BUILD [LEVELS]}
levels=${2:-2}
profiles=$deps/profiles texts=$deps/texts/mixed.jsonl
tokens=16384  # a minute for the first level; twice as many would save about 4 % of a file
margin=4      # nobody codes these texts: others' coefficients are wider
made=2        # grows when kvcalibrate makes better ones of the same texts
calibrate=$build/tools/kvcalibrate
[ -x "$calibrate" ] || { say "no profile: there is no kvcalibrate without LibTorch"; exit 0; }
source "$root/setup/model.sh"
key=$(cat "$root/setup/calibration_texts.py" <(echo "$model_sha256 $tokens $margin $made") | sha256sum)

todo=()
for level in ${levels//,/ }; do
  file=$profiles/smollm2.l$level.kvp
  [ -e "$file" ] && stamped "$profiles/.smollm2.l$level" "$key" || todo+=("$level")
done
[ ${#todo[@]} -gt 0 ] || exit 0

"$root/setup/packages.sh" build
mkdir -p "$profiles" "${texts%/*}"
exec 8>"$profiles/.lock"
flock -n 8 || { say "another set-up makes profiles; waiting for it"; flock 8; }
"$python" "$root/setup/calibration_texts.py" 32 >"$texts.new" && mv "$texts.new" "$texts"
for level in "${todo[@]}"; do
  stamped "$profiles/.smollm2.l$level" "$key" && continue
  rm -f "$profiles/smollm2.l$level.kvp"
  say "making the model's profile for level $level (a minute or two)"
  "$calibrate" -m "$model_file" -l "$level" --tokens "$tokens" --margin "$margin" --jsonl \
    --work "$profiles/samples" --out-dir "$profiles" "$texts"
  stamp "$profiles/.smollm2.l$level" "$key"
done
rm -rf "$profiles/samples"
