#include "kv/stream/token_source.hh"

#include "kv/base/json.hh"
#include "kv/stream/varint.hh"

#include <nlohmann/json.hpp>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 1u << 30;
constexpr std::size_t kMaxTokens = 16'000'000;
constexpr std::size_t kMaxTokenBytes = 4096;
constexpr std::uint64_t kSource = 48;  // purpose of the generator

}  // namespace

std::vector<TimedToken> read_token_trace(Input input, Payload payload) {
  const std::string name = input.name();
  const Bytes bytes = input.read_all(kMaxFileBytes);
  std::string_view rest = as_text(bytes);
  std::vector<TimedToken> tokens;
  TimeNs before = 0;
  std::size_t held = 0;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const auto bad = [&](const char* what) { fail_input("{}: line {}: {}", name, number, what); };
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (json_too_deep(line, 16)) bad("nested too deep");
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) bad("no JSON object");
    const auto at = object.find("t_ns"), id = object.find("id"), text = object.find("text");
    if (at == object.end() || !at->is_number_integer() || *at < 0) bad("no \"t_ns\"");
    const auto t_ns = at->get<TimeNs>();
    if (t_ns < before || t_ns > 1'000'000 * kSecond) bad("\"t_ns\" goes back or is absurd");
    before = t_ns;
    std::size_t size = 0;
    if (payload == Payload::kIds) {
      if (id == object.end() || !id->is_number_integer() || *id < 0) bad("no \"id\"");
      size = varint_size(id->get<std::uint64_t>());
    } else {
      if (text == object.end() || !text->is_string()) bad("no \"text\"");
      size = text->get_ref<const std::string&>().size();
    }
    if (size > kMaxTokenBytes) bad("a token of more than 4096 bytes");
    if (size == 0) {
      ++held;
      continue;
    }
    if (tokens.size() == kMaxTokens) bad("more than 16 million tokens");
    tokens.push_back({t_ns, static_cast<std::uint32_t>(size)});
  }
  if (tokens.empty()) fail_input("{}: no tokens ({} without text)", name, held);
  return tokens;
}

TokenSource::TokenSource(const SourceOptions& options, std::uint64_t seed)
    : options_(&options), random_(seed, kSource) {}

std::optional<TimedToken> TokenSource::next() {
  const SourceOptions& o = *options_;
  if (made_ == o.tokens || (o.trace && made_ == o.trace->size())) return std::nullopt;
  if (o.trace) return (*o.trace)[made_++];
  ++made_;
  const double factor = o.jitter > 0 ? 1 + o.jitter * (2 * random_.uniform() - 1) : 1;
  at_ += o.jitter > 0 ? static_cast<TimeNs>(static_cast<double>(o.interval) * factor) : o.interval;
  if (o.payload == Payload::kIds) return TimedToken{at_, 2};
  return TimedToken{at_, static_cast<std::uint32_t>(1 + random_.next() % 8)};
}

}  // namespace kv
