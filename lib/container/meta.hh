#pragma once
// The META frame: what a member is. JSON in the file, this struct in memory.

#include "kv/base/bytes.hh"
#include "kv/container/format.hh"
#include "kv/container/geometry.hh"
#include "kv/container/tensor.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct ModelIdentity {
  std::string name;
  std::string architecture;
  std::string fingerprint;  // of the weights; "" when unknown (imported)
  std::string tokenizer_fingerprint;
  std::string adapter;           // of the LoRA that was merged in, or ""
  std::string base_fingerprint;  // of the model the adapter belongs to, or ""

  bool operator==(const ModelIdentity&) const = default;
};

// A layer of the model that has a cache in this member.
struct LayerMeta {
  std::uint32_t index = 0;  // in the model
  LayerGeometry geometry;
  std::int64_t latent_dim = 0;  // over 0: one L tensor of this width instead of K and V

  bool operator==(const LayerMeta&) const = default;
};

// Tokens that were prefilled together, without what stands before them.
struct ChunkMeta {
  std::string id;
  std::int64_t token_begin = 0;  // in the member
  std::int64_t token_count = 0;
  bool bos = false;  // prefilled behind a BOS

  bool operator==(const ChunkMeta&) const = default;
};

struct HistoryEntry {
  std::string tool, version;
  std::vector<std::string> arguments;

  bool operator==(const HistoryEntry&) const = default;
};

struct Meta {
  ModelIdentity model;
  std::int64_t hidden = 0;                   // width of E
  std::vector<LayerMeta> layers;             // ascending index; layers without a cache are absent
  std::vector<std::uint32_t> hidden_layers;  // layers whose input E is kept, ascending
  DType dtype = DType::kBF16;                // of the decoded tensors
  bool rope_applied = false;                 // keys: true only in files from an engine
  std::int64_t token_count = 0;
  std::int64_t first_position = 0;  // of the member's first token, in the document
  std::vector<ChunkMeta> chunks;
  std::string codec = "raw";  // profile and level as the encoder named them
  std::uint16_t quality_layers = 1;
  std::vector<HistoryEntry> history;
  std::string document_json = "{}";  // the user's own fields, kept as they are ("id" and so on)
  std::string extra_json = "{}";     // top-level keys of a newer minor version, carried along

  bool operator==(const Meta&) const = default;

  // Values of a token's row: heads and width of a tile. Throws kInput when the member declares no
  // such tensor.
  TensorView shape_of(const format::TileHeader& tile) const;
  // The (layer, kind) pairs the member must hold, in file order.
  std::vector<std::pair<std::uint32_t, format::Kind>> tensors() const;
  // Bytes of one token over all layers' K, V and L in `dtype`.
  std::uint64_t bytes_per_token() const;
};

// Deterministic (keys sorted, no spaces).
std::string meta_to_json(const Meta& meta);
// `place` names the frame in messages. Throws kInput on anything that kv(5) does not allow:
// missing or mistyped fields, counts beyond the limits, NaN, nesting deeper than 32.
Meta meta_from_json(std::string_view json, const std::string& place);

// Throws kInput, naming both, unless `meta` was made with the given model.
void require_same_model(const Meta& meta, const std::string& place, const ModelIdentity& wanted);

}  // namespace kv
