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

// The hash of what Python's pickle, protocol 5, makes of one object within a frame.
class Pickle {
 public:
  void code(int opcode) { text_.push_back(static_cast<char>(opcode)); }
  void memoize() { code(0x94); }
  template <typename T>
  void number(int opcode, T value) {
    code(opcode);
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void text(int opcode, std::string_view text) {  // under 256 bytes
    number(opcode, static_cast<std::uint8_t>(text.size()));
    text_.append(text);
    memoize();
  }
  Sha256 sha256() {
    code('.');                             // STOP
    std::string whole("\x80\x05\x95", 3);  // PROTO, FRAME
    const std::uint64_t size = text_.size();
    whole.append(reinterpret_cast<const char*>(&size), sizeof(size));
    return kv::sha256(as_bytes(whole + text_));
  }

 private:
  std::string text_;
};

Sha256 pickle_text(std::string_view text) {
  if (text.size() > 255) fail_usage("--seed: at most 255 bytes");
  Pickle pickle;
  pickle.text(0x8C, text);  // SHORT_BINUNICODE
  return pickle.sha256();
}

// The tuple (hash before, (ids), None), each number in its shortest form.
Sha256 pickle_block(ByteView before, TokenIds ids) {
  constexpr int kTuple1 = 0x85;  // then TUPLE2 and TUPLE3
  Pickle pickle;
  pickle.text('C', as_text(before));  // SHORT_BINBYTES
  if (ids.size() > 3) pickle.code('(');
  for (const std::int32_t id : ids) {
    if (id < 1 << 8) {
      pickle.number('K', static_cast<std::uint8_t>(id));
    } else if (id < 1 << 16) {
      pickle.number('M', static_cast<std::uint16_t>(id));
    } else {
      pickle.number('J', id);
    }
  }
  pickle.code(ids.size() > 3 ? 't' : kTuple1 + static_cast<int>(ids.size()) - 1);
  pickle.memoize();
  pickle.code('N');
  pickle.code(kTuple1 + 2);
  pickle.memoize();
  return pickle.sha256();
}

// LMCache keeps 64 bits of a hash, as a number: [number before, [ids], nothing more].
std::uint64_t folded(const Sha256& hash) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i)
    number = number << 8 | std::to_integer<std::uint64_t>(hash[i]);
  return number;
}
std::uint64_t lmcache_chunk(std::uint64_t before, TokenIds ids) {
  return folded(sha256_cbor(Json::array({before, ids, Json::array()})));
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

constexpr std::string_view kVllmSeed = "vllm-none-hash";

}  // namespace

std::span<const KeyFamily> key_families() {
  static constexpr std::array<KeyFamily, 6> kAll = {{
      {.name = "vllm", .block = 128, .whole_only = true},
      // Beyond that pickle makes a second frame.
      {.name = "vllm-blocks",
       .block = 16,
       .seed = kVllmSeed,
       .names_model = true,
       .names_dtype = true,
       .most = 8192},
      {.name = "vllm-cbor",
       .block = 16,
       .seed = kVllmSeed,
       .names_model = true,
       .names_dtype = true},
      {.name = "lmcache", .block = 256, .seed = "0", .names_model = true, .names_dtype = true},
      {.name = "lmcache-mp", .block = 256, .names_model = true},
      {.name = "hicache", .block = 64, .names_model = true},
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
  if (block > family.most) fail_usage("{}: blocks of at most {} tokens", family.name, family.most);
  const auto size = static_cast<std::size_t>(block);
  const std::size_t blocks = ids.size() / size;
  if (blocks == 0) return {};
  if (family.whole_only) {
    const auto tokens = static_cast<std::int64_t>(blocks * size);
    return {{tokens, vllm_folder(ids.first(blocks * size))}};
  }
  if (seed.empty()) seed = family.seed;
  std::vector<EngineKey> keys;
  // `step` makes the key of a block, and keeps what the next one needs.
  const auto chain = [&](auto step) {
    for (std::size_t i = 0; i < blocks; ++i) {
      keys.push_back(
          {static_cast<std::int64_t>((i + 1) * size), step(ids.subspan(i * size, size))});
    }
    return std::move(keys);
  };
  if (family.name == "lmcache") {
    return chain([before = folded(sha256_cbor(seed))](TokenIds part) mutable {
      before = lmcache_chunk(before, part);
      return fmt::format("{:x}", before);
    });
  }
  if (family.name == "hicache") {
    return chain([before = Bytes()](TokenIds part) mutable {
      const Sha256 hash = hicache_page(before, part);
      before.assign(hash.begin(), hash.end());
      return hex(hash);
    });
  }
  using Step = Sha256 (*)(ByteView, TokenIds);
  const bool pickle = family.name == "vllm-blocks", cbor = family.name == "vllm-cbor";
  const Step step = pickle ? pickle_block : cbor ? cbor_block : blake3_chunk;
  Sha256 root = pickle ? pickle_text(seed) : cbor ? sha256_cbor(seed) : blake3_root();
  return chain([step, before = root](TokenIds part) mutable {
    before = step(before, part);
    return hex(before);
  });
}

std::string vllm_folder(TokenIds ids) {
  const std::vector<std::int64_t> wide(ids.begin(), ids.end());
  return md5_hex(std::as_bytes(std::span(wide)));
}

}  // namespace kv
