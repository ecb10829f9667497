#pragma once
// What is inside a kv stream, for people and for programs.

#include "kv/container/reader.hh"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace kv {

// Tiles of one kind, quality and codec.
struct TileKey {
  char kind = 0;
  std::uint16_t quality = 0;
  std::uint16_t codec = 0;

  auto operator<=>(const TileKey&) const = default;
};
struct TileSum {
  std::uint64_t tiles = 0;
  std::uint64_t stored_bytes = 0;  // payloads with their tile headers
  std::uint64_t raw_bytes = 0;     // what they decode to
};

struct MemberReport {
  Meta meta;
  std::vector<std::int32_t> tokens;
  Importance importance;
  std::map<TileKey, TileSum> tiles;
  std::set<std::uint64_t> profiles;  // that tiles of the codec `clp` name: all, or in the index's
                                     // case that of the first
  std::uint64_t size_bytes = 0;      // with all frames
  std::uint64_t hash = 0;            // of a verified member, else 0
  std::uint64_t frames = 0;          // likewise
};

// Every member of the stream. A regular file with an index is not read through unless `verify`;
// anything else is, and verified. Throws as Reader does.
std::vector<MemberReport> inspect(const std::string& path, bool verify);

// What was verified, on one line: members, frames, tiles, bytes, the last member's hash.
std::string check_text(const std::string& name, const std::vector<MemberReport>& members);
std::string report_text(const std::string& name, const std::vector<MemberReport>& members);
std::string report_json(const std::string& name, const std::vector<MemberReport>& members);

// A token id and its text as a JSON string, so that newlines and broken characters are seen.
std::string token_line(std::int32_t id, const std::string& text);

// One line a field of the stream: offset, bytes, name, value.
std::string hex_line(const FieldNote& note, ByteView bytes);

}  // namespace kv
