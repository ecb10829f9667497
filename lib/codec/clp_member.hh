#pragma once
// A member in the codec `clp`, layer by layer: each layer's tiles need the contexts of the layer
// before, which are kept here. Private to the folder.

#include "clp_tensor.hh"
#include "kv/codec/transcode.hh"
#include "kv/container/reader.hh"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct OwnedTile {
  format::TileHeader header;
  Bytes data;
  std::uint64_t frame_offset = 0;
};

// A profile's tensors made ready, each when it is first used. Threads may share it.
class ClpCoders {
 public:
  explicit ClpCoders(std::shared_ptr<const Profile> profile);
  const Profile& profile() const { return *profile_; }
  // Throws kInput, with `place`, when the profile has no such tensor or another geometry.
  const TensorCoder& coder(const format::TileHeader& tile, std::int64_t channels,
                           const std::string& place) const;

 private:
  std::shared_ptr<const Profile> profile_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<std::uint32_t, format::Kind>, std::unique_ptr<TensorCoder>> coders_;
};

// Contexts of the tiles that begin at one token.
class ClpColumn {
 public:
  std::vector<const TileContext*> context_of(const TensorProfile& profile,
                                             const std::string& place) const;
  TileContext& add(std::uint32_t layer, format::Kind kind);
  // What later layers do not use any more.
  void forget(std::uint32_t layer);

 private:
  std::map<std::pair<std::uint32_t, format::Kind>, TileContext> contexts_;
};

// All tiles of a layer in the file's order, in other words K before V, coded or raw.
class ClpMember {
 public:
  ClpMember(const Meta& meta, std::string place, int threads);

  // Coded tiles, whole and of one layer, in any cut; E tiles are left as they are.
  std::vector<OwnedTile> decode(std::vector<OwnedTile> coded);
  // IMPT of the member: tokens that matter get finer steps. Before the first layer is encoded.
  void set_importance(const Importance& importance);
  // Raw tiles, all of one layer.
  std::vector<OwnedTile> encode(std::vector<OwnedTile> raw, const ClpOptions& options);

 private:
  const ClpCoders& coders_for(std::uint64_t hash, const std::string& place);
  std::string place_of(const OwnedTile& tile) const;
  OwnedTile decoded(const OwnedTile& tile, ClpColumn& column);
  template <typename F>
  void each_column(std::vector<OwnedTile>& tiles, F&& use);

  TileSteps steps_of(const format::TileHeader& tile, int base) const;

  Meta meta_;
  std::string place_;
  int threads_;
  std::map<std::uint64_t, std::unique_ptr<ClpCoders>> coders_;
  std::map<std::uint64_t, ClpColumn> columns_;  // by first token
  std::map<std::pair<std::uint32_t, format::Kind>, std::vector<std::int8_t>> steps_;
};

}  // namespace kv
