#pragma once
// A member in the codec `clp`, layer by layer: each layer's tiles need the contexts of the layer
// before, which are kept here. Private to the folder.

#include "clp_tensor.hh"
#include "kv/codec/transcode.hh"
#include "kv/container/reader.hh"
#include "workers.hh"

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
  // The process's own, of the few profiles that were used last: members share them.
  static std::shared_ptr<const ClpCoders> of(const std::shared_ptr<const Profile>& profile);
  const Profile& profile() const { return *profile_; }
  // Throws kInput, with `place`, when the profile has no such tensor or another geometry.
  const TensorCoder& coder(const format::TileHeader& tile, std::int64_t channels,
                           const std::string& place) const;

 private:
  struct Slot {
    std::once_flag once;
    std::optional<TensorCoder> coder;
  };
  std::shared_ptr<const Profile> profile_;
  std::unique_ptr<Slot[]> slots_;  // of profile_->tensors
};

// Contexts of the tiles that begin at one token.
class ClpColumn {
 public:
  std::vector<const TileContext*> context_of(const TensorProfile& profile,
                                             const std::string& place) const;
  TileContext& add(std::uint32_t layer, format::Kind kind);
  // What layers after this one do not use any more.
  void forget(std::uint32_t layer);

 private:
  std::map<std::pair<std::uint32_t, format::Kind>, TileContext> contexts_;
  std::vector<TileContext> spare_;  // whose memory serves again
};

class ClpMember {
 public:
  ClpMember(const Meta& meta, std::string place, int threads);

  // Tiles of whole layers, one or more that follow one another, in any cut. Raw ones come back in
  // the place of the coded; E tiles and those of other codecs are left as they are.
  std::vector<OwnedTile> decode(std::vector<OwnedTile> coded);
  // So many tiles at a time, of several layers if one has fewer, keep all threads busy.
  std::size_t most_tiles_together() const;
  // Data of a decoded tile that is not needed any more: its memory serves again.
  void recycle(Bytes data);

  // IMPT of the member: tokens that matter get finer steps. Before the first layer is encoded.
  void set_importance(const Importance& importance);
  // Raw tiles, all of one layer, in the file's order.
  std::vector<OwnedTile> encode(std::vector<OwnedTile> raw, const ClpOptions& options);

 private:
  struct Work;  // a tile that is being decoded or encoded
  const ClpCoders& coders_for(std::uint64_t hash, const std::string& place);
  std::string place_of(const OwnedTile& tile) const;
  // In the order of decoding, the tiles of each column together.
  std::vector<std::vector<Work>> columns_of(std::vector<OwnedTile>& tiles);
  // The tensors of the profiles, side by side.
  void make_coders(std::vector<std::vector<Work>>& columns, const ClpCoders* encoders);
  void begin(Work& work);
  Bytes room(std::size_t size);
  TileSteps steps_of(const format::TileHeader& tile, int base) const;

  Meta meta_;
  std::string place_;
  std::map<std::uint64_t, std::shared_ptr<const ClpCoders>> coders_;
  std::map<std::uint64_t, ClpColumn> columns_;  // by first token
  std::map<std::pair<std::uint32_t, format::Kind>, std::vector<std::int8_t>> steps_;
  std::vector<Bytes> spare_data_;
  std::vector<Quads> spare_quads_;
  Workers workers_;
};

}  // namespace kv
