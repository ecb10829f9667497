// lmcache and lmcache-gds: the stores of LMCache within vLLM, chunks as KV_2LTD [K, V][layers]
// [tokens][heads * dim], a file for each device.
//
// lmcache is the fs connector: i32 bytes, i32 format, i32 dtype, i32 shape[4] before the chunk, or
// nothing (save_chunk_meta: false). lmcache-gds is the GDS backend: the first 4 KiB are those of a
// safetensors file, in JSON with blanks behind, and a file .metadata has them once more.

#include "kv/base/json.hh"
#include "layouts.hh"
#include "two_ltd.hh"

#include <nlohmann/json.hpp>

#include <array>

namespace kv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

struct LmcacheDtype {
  DType dtype;
  std::int32_t number;
  std::string_view word, safetensors;
};
constexpr std::array<LmcacheDtype, 3> kDtypes = {{{DType::kF16, 2, "half", "F16"},
                                                  {DType::kBF16, 3, "bfloat16", "BF16"},
                                                  {DType::kF32, 4, "float", "F32"}}};
constexpr std::int32_t kKv2Ltd = 1;

const LmcacheDtype& names_of(DType dtype) {
  for (const LmcacheDtype& known : kDtypes) {
    if (known.dtype == dtype) return known;
  }
  fail_usage("lmcache: no {}", dtype_name(dtype));
}

class LmcacheStore : public TwoLtdStore {
 public:
  using TwoLtdStore::TwoLtdStore;
  std::string_view family() const override { return "lmcache"; }

 protected:
  std::string key_of(const EngineKey& key, std::size_t rank, std::string_view slash) const {
    return fmt::format("{}@{}@{}@{}@{}", model_name(slash), devices(), rank, key.key,
                       names_of(cache().dtype).word);
  }
  std::array<std::int32_t, 4> shape() const {
    const auto width =
        static_cast<std::int32_t>(heads() * row_bytes() / dtype_size_bytes(cache().dtype));
    return {2, static_cast<std::int32_t>(layers()), static_cast<std::int32_t>(block()), width};
  }
};

class FsStore : public LmcacheStore {
 public:
  using LmcacheStore::LmcacheStore;
  std::vector<std::string> files(const EngineKey& key) const override {
    std::vector<std::string> names;
    for (std::size_t rank = 0; rank < devices(); ++rank) {
      names.push_back(key_of(key, rank, "-SEP-") + ".data");
    }
    return names;
  }
  Bytes header() const override { return options().headers ? described() : Bytes(); }
  std::size_t checked(const std::string& name, ByteView bytes) const override {
    if (bytes.size() == file_bytes()) return 0;
    const Bytes wanted = described();
    if (bytes.size() != wanted.size() + file_bytes()) {
      fail_input("{}: {} bytes, where the model's geometry and --block {} need {}", name,
                 bytes.size(), block(), wanted.size() + file_bytes());
    }
    if (!std::equal(wanted.begin(), wanted.end(), bytes.begin())) {
      fail_input("{}: its header describes another chunk than [{}] of {}", name,
                 fmt::join(shape(), ", "), dtype_name(cache().dtype));
    }
    return wanted.size();
  }

 private:
  Bytes described() const {
    ByteWriter header;
    header.put(static_cast<std::int32_t>(file_bytes()));
    header.put(kKv2Ltd);
    header.put(names_of(cache().dtype).number);
    for (const std::int32_t size : shape()) header.put(size);
    return header.take();
  }
};

class GdsStore : public LmcacheStore {
 public:
  using LmcacheStore::LmcacheStore;
  std::vector<std::string> files(const EngineKey& key) const override {
    // Folders are digits of the key in decimal.
    const std::string number = std::to_string(std::stoull(key.key, nullptr, 16));
    std::vector<std::string> names;
    for (std::size_t rank = 0; rank < devices(); ++rank) {
      names.push_back(fmt::format("{}/{}/{}.kvcache.safetensors", number.substr(0, 2),
                                  number.size() > 2 ? number.substr(2, 2) : "",
                                  quoted(key_of(key, rank, "/"))));
    }
    return names;
  }
  Bytes header() const override {
    const ordered_json tensor = {{"dtype", names_of(cache().dtype).safetensors},
                                 {"shape", shape()},
                                 {"data_offsets", {0, file_bytes()}},
                                 {"fmt", kKv2Ltd},
                                 {"__metadata__", {{"lmcache_version", "1"}}}};
    std::string text = ordered_json{{"kvcache", tensor}}.dump();
    text.resize(kHeaderBytes - sizeof(std::uint64_t), ' ');
    ByteWriter bytes;
    bytes.put(static_cast<std::uint64_t>(text.size()));
    bytes.put_bytes(as_bytes(text));
    return bytes.take();
  }
  std::vector<std::pair<std::string, Bytes>> beside(const EngineKey& key) const override {
    std::vector<std::pair<std::string, Bytes>> all;
    for (const std::string& name : files(key)) all.emplace_back(name + ".metadata", header());
    return all;
  }
  std::size_t checked(const std::string& name, ByteView bytes) const override {
    if (bytes.size() != kHeaderBytes + file_bytes()) {
      fail_input("{}: {} bytes, where the model's geometry and --block {} need {}", name,
                 bytes.size(), block(), kHeaderBytes + file_bytes());
    }
    ByteReader reader(bytes, name);
    const auto size = reader.get<std::uint64_t>();
    if (size > kHeaderBytes - sizeof(size)) fail_input("{}: a header of {} bytes", name, size);
    const std::string_view text = as_text(reader.take(static_cast<std::size_t>(size)));
    if (json_too_deep(text, 8)) fail_input("{}: nested too deeply", name);
    const json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
    const json tensor = header.is_object() ? header.value("kvcache", json()) : json();
    if (!tensor.is_object()) fail_input("{}: its header is no description of a chunk", name);
    const auto require = [&](const char* key, const json& wanted) {
      if (tensor.value(key, json()) == wanted) return;
      fail_input("{}: \"{}\" is not {}, which the model's geometry needs", name, key,
                 wanted.dump());
    };
    require("dtype", names_of(cache().dtype).safetensors);
    require("shape", shape());
    require("data_offsets", {0, file_bytes()});
    require("fmt", kKv2Ltd);
    return kHeaderBytes;
  }

 private:
  static constexpr std::size_t kHeaderBytes = 4096;

  // As URLs have it, also '/'.
  static std::string quoted(const std::string& text) {
    std::string out;
    for (const char c : text) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == '~';
      out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
  }
};

template <typename Store>
std::unique_ptr<BlockStore> make(const LayoutCache& cache, const LayoutOptions& options) {
  return std::make_unique<Store>(cache, *options.store, options.blocks->tokens);
}

}  // namespace

Layout lmcache_layout() { return store_layout<make<FsStore>>("lmcache", 256); }
Layout lmcache_gds_layout() { return store_layout<make<GdsStore>>("lmcache-gds", 256); }

}  // namespace kv
