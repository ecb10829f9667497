#include "kv/convert/ids.hh"

#include "kv/container/format.hh"

#include <charconv>

namespace kv {

std::vector<std::int32_t> read_ids(Input input) {
  // Ten digits and what stands between.
  const Bytes bytes = input.read_all(format::kMaxTokens * 12);
  const std::string_view text = as_text(bytes);
  std::vector<std::int32_t> ids;
  const auto bad = [&](std::size_t at) {
    fail_input("{}: byte {}: not a token id; give whole numbers with blanks or commas between",
               input.name(), at);
  };
  constexpr std::string_view kBlank = " \t\r\n";
  std::size_t at = text.find_first_not_of(kBlank);
  bool brackets = false, closed = false, comma = false;
  for (; at < text.size(); at = text.find_first_not_of(kBlank, at)) {
    const char c = text[at];
    if (closed) bad(at);
    if (c == '[' && ids.empty() && !brackets) {
      brackets = true;
      ++at;
    } else if (c == ']' && brackets && !comma) {
      closed = true;
      ++at;
    } else if (c == ',' && !ids.empty() && !comma) {
      comma = true;
      ++at;
    } else {
      std::int32_t id = 0;
      const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), id);
      if (error != std::errc() || id < 0 || ids.size() == format::kMaxTokens) bad(at);
      at = static_cast<std::size_t>(end - text.data());
      constexpr std::string_view kBehind = " \t\r\n,]";
      if (at < text.size() && kBehind.find(text[at]) == std::string_view::npos) bad(at);
      ids.push_back(id);
      comma = false;
    }
  }
  if (ids.empty() || comma || brackets != closed) {
    fail_input("{}: {} token ids, and then the end", input.name(), ids.size());
  }
  return ids;
}

}  // namespace kv
