#pragma once
// tokenizer.model through libsentencepiece. Private to the folder.

#include "kv/tokenizer/tokenizer.hh"

namespace kv {

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path);

}  // namespace kv
