#include "kv/convert/engine_keys.hh"

#include "blake3.hh"

#include <nlohmann/json.hpp>

#include <span>
#include <vector>

namespace kv {
namespace {

using Json = nlohmann::json;

Sha256 sha256_cbor(const Json& value) {
  const std::vector<std::uint8_t> bytes = Json::to_cbor(value);
  return sha256(std::as_bytes(std::span(bytes)));
}

// The array [hash before, [ids], nothing more], under SHA-256. Numbers are in their shortest forms.
Sha256 cbor_block(ByteView before, TokenIds ids) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(before.data());
  Json::binary_t bytes({first, first + before.size()});
  return sha256_cbor(Json::array({Json::binary(std::move(bytes)), ids, nullptr}));
}

// SGLang: the hash before, in bytes, and the ids in four bytes each, the lowest first.
Sha256 hicache_page(ByteView before, TokenIds ids) {
  ByteWriter bytes;
  bytes.put_bytes(before);
  bytes.put_bytes(std::as_bytes(ids));
  return sha256(bytes.bytes());
}

// LMCache's server: the same with the highest byte first, under BLAKE3.
Sha256 blake3_chunk(ByteView before, TokenIds ids) {
  ByteWriter bytes;
  bytes.put_bytes(before);
  for (const std::int32_t id : ids) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes.put(static_cast<std::uint8_t>(static_cast<std::uint32_t>(id) >> shift));
    }
  }
  return blake3(bytes.bytes());
}

// What its chain begins with where nobody chose a seed.
Sha256 blake3_root() { return blake3(Bytes(12)); }

}  // namespace

std::span<const KeyFamily> key_families() {
  static constexpr std::array<KeyFamily, 5> kAll = {{
      {.name = "vllm", .block = 128, .whole_only = true},
      {.name = "vllm-blocks", .block = 16, .seeded = true},
      {.name = "lmcache", .block = 256, .seeded = true},
      {.name = "lmcache-mp", .block = 256},
      {.name = "hicache", .block = 64},
  }};
  return kAll;
}

const KeyFamily& key_family_by_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const KeyFamily& family : key_families()) {
    if (family.name == name) return family;
    names.push_back(family.name);
  }
  fail_usage("'{}': no engine of that name; give one of {}", name, fmt::join(names, ", "));
}

std::vector<EngineKey> engine_keys(const KeyFamily& family, TokenIds ids, std::int64_t block,
                                   std::string_view seed) {
  const auto size = static_cast<std::size_t>(block);
  const std::size_t blocks = ids.size() / size;
  if (blocks == 0) return {};
  if (family.whole_only) {
    const auto tokens = static_cast<std::int64_t>(blocks * size);
    return {{tokens, vllm_folder(ids.first(blocks * size))}};
  }
  std::vector<EngineKey> keys;
  Sha256 hash = family.seeded                 ? sha256_cbor(seed)
                : family.name == "lmcache-mp" ? blake3_root()
                                              : Sha256{};
  for (std::size_t i = 0; i < blocks; ++i) {
    const TokenIds part = ids.subspan(i * size, size);
    if (family.seeded) {
      hash = cbor_block(hash, part);
    } else if (family.name == "lmcache-mp") {
      hash = blake3_chunk(hash, part);
    } else {
      hash = hicache_page(i == 0 ? ByteView() : ByteView(hash), part);
    }
    keys.push_back({static_cast<std::int64_t>((i + 1) * size), hex(hash)});
  }
  return keys;
}

std::string vllm_folder(TokenIds ids) {
  const std::vector<std::int64_t> wide(ids.begin(), ids.end());
  return md5_hex(std::as_bytes(std::span(wide)));
}

}  // namespace kv
