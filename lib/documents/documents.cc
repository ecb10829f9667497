#include "kv/documents/documents.hh"

#include "kv/base/hash.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxTextBytes = 1u << 30;
constexpr std::size_t kMaxLineBytes = 256u << 20;
constexpr std::size_t kReadBytes = 1u << 18;
constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxNameBytes = 200;

std::vector<std::int32_t> tokens_of(const json& value, const std::string& place) {
  if (!value.is_array()) fail_input("{}: \"tokens\" is not a list of ids", place);
  std::vector<std::int32_t> tokens;
  tokens.reserve(value.size());
  for (const json& id : value) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
      fail_input("{}: \"tokens\"[{}] is not a token id", place, tokens.size());
    }
    tokens.push_back(id.get<std::int32_t>());
  }
  return tokens;
}

Document document_of(const std::string& line, std::uint64_t number, std::string place) {
  if (json_too_deep(line, kMaxDepth)) fail_input("{}: nested deeper than {}", place, kMaxDepth);
  json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) fail_input("{}: not valid JSON", place);
  if (!object.is_object()) fail_input("{}: not a JSON object", place);

  Document document;
  document.id = std::to_string(number);
  if (const auto id = object.find("id"); id != object.end()) {
    if (id->is_string()) {
      document.id = id->get<std::string>();
    } else if (id->is_number_integer()) {
      document.id = id->dump();
    } else {
      fail_input("{}: \"id\" is neither text nor a whole number", place);
    }
    if (document.id.empty()) fail_input("{}: \"id\" is empty", place);
  }
  const bool has_text = object.contains("text");
  if (has_text == object.contains("tokens")) {
    fail_input("{}: give either \"text\" or \"tokens\"", place);
  }
  if (has_text) {
    if (!object["text"].is_string()) fail_input("{}: \"text\" is not a string", place);
    document.text = object["text"].get<std::string>();
  } else {
    document.tokens = tokens_of(object["tokens"], place);
  }
  object.erase("text");
  object.erase("tokens");
  object["id"] = document.id;
  document.fields_json = object.dump(-1, ' ', false, json::error_handler_t::replace);
  document.place = std::move(place);
  return document;
}

}  // namespace

Document read_text(Input input) {
  Document document;
  document.id = input.name();
  document.place = input.name();
  document.text = as_text(input.read_all(kMaxTextBytes));
  document.fields_json =
      json{{"id", document.id}}.dump(-1, ' ', false, json::error_handler_t::replace);
  return document;
}

LineReader::LineReader(Input input) : input_(std::move(input)) {}

std::optional<std::string> LineReader::next_line() {
  std::size_t scanned = 0;  // bytes from begin_ known to hold no newline
  while (true) {
    if (scanned < end_ - begin_) {
      const std::byte* from = buffer_.data() + begin_ + scanned;
      if (const void* newline = std::memchr(from, '\n', end_ - begin_ - scanned)) {
        const auto size = static_cast<std::size_t>(static_cast<const std::byte*>(newline) -
                                                   (buffer_.data() + begin_));
        std::string line(as_text(ByteView(buffer_).subspan(begin_, size)));
        begin_ += size + 1;
        return line;
      }
      scanned = end_ - begin_;
    }
    if (at_end_) {
      if (begin_ == end_) return std::nullopt;
      std::string line(as_text(ByteView(buffer_).subspan(begin_, end_ - begin_)));
      begin_ = end_;
      return line;
    }
    if (scanned > kMaxLineBytes) {
      fail_input("{}: line {}: longer than {} MiB", input_.name(), line_ + 1, kMaxLineBytes >> 20);
    }
    std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
              buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
    buffer_.resize(std::max(buffer_.size(), std::max(2 * end_, kReadBytes)));
    const std::size_t got = input_.read_some(std::span(buffer_).subspan(end_));
    at_end_ = got == 0;
    read_bytes_ += got;
    end_ += got;
  }
}

std::optional<std::string> LineReader::next() {
  while (std::optional<std::string> line = next_line()) {
    ++line_;
    if (line->find_first_not_of(" \t\r") != std::string::npos) return line;
  }
  return std::nullopt;
}

std::string LineReader::place() const { return fmt::format("{}: line {}", input_.name(), line_); }

JsonlReader::JsonlReader(Input input) : lines_(std::move(input)) {}

std::optional<Document> JsonlReader::next() {
  const std::optional<std::string> line = lines_.next();
  if (!line) return std::nullopt;
  return document_of(*line, lines_.number(), lines_.place());
}

double LineReader::share() const {
  const std::uint64_t size = input_.size_bytes().value_or(0);
  const std::uint64_t unread = end_ - begin_;
  return size == 0 ? 0 : static_cast<double>(read_bytes_ - unread) / static_cast<double>(size);
}

std::string file_name_of(const std::string& id) {
  std::string name;
  for (const char c : id) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-' || (c == '.' && !name.empty());
    if (plain) {
      name += c;
    } else {
      name += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  if (name.size() > kMaxNameBytes) {
    Fingerprint fingerprint;
    fingerprint.add(as_bytes(id));
    name = name.substr(0, kMaxNameBytes - 17) + "~" + fingerprint.hex().substr(0, 16);
  }
  return name;
}

Shard parse_shard(const std::string& text) {
  Shard shard;
  const char* end = text.data() + text.size();
  const auto [slash, first_code] = std::from_chars(text.data(), end, shard.index);
  bool good = first_code == std::errc() && slash != end && *slash == '/';
  if (good) {
    const auto [last, second_code] = std::from_chars(slash + 1, end, shard.count);
    good = second_code == std::errc() && last == end;
  }
  if (!good || shard.index < 1 || shard.index > shard.count) {
    fail_usage("--shard '{}': give i/n with 1 <= i <= n, for example 2/8", text);
  }
  return shard;
}

}  // namespace kv
