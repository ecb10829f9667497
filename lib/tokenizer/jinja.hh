#pragma once
// What can be read off a Jinja chat template without running it: its literals. Private to the
// folder.

#include "kv/tokenizer/tokenizer.hh"

#include <optional>
#include <string>
#include <string_view>

namespace kv::jinja {

// The characters of a literal: \n is a newline.
std::string unescaped(std::string_view literal);

// The string literal right behind `lead`, where it first stands.
std::optional<std::string> text_behind(std::string_view jinja, std::string_view lead);

// What an expression {{ 'literal' + content + 'literal' }} with `mark` in it puts around a message.
// The first one that is no more than literals, BOS, EOS and one content.
std::optional<ChatTemplate::Wrap> wrap_with(std::string_view jinja, std::string_view mark);

}  // namespace kv::jinja
