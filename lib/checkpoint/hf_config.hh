#pragma once
// config.json of a Hugging Face folder. Private to the folder.

#include "family.hh"

#include <string>

namespace kv {

// `text` is config.json, `generation_text` generation_config.json or empty. Throws kInput, naming
// `place`, for unsupported families and RoPE types and for missing or impossible values.
ModelConfig hf_config(const std::string& text, const std::string& generation_text,
                      const std::string& place);

}  // namespace kv
