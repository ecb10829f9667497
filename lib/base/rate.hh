#pragma once
// Rates as options have them.

#include <string>

namespace kv {

// "50M", "4.8G", "1250": bytes a second. Throws kUsage, naming the option.
double parse_rate(const std::string& text, const char* option);

}  // namespace kv
