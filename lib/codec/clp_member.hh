#pragma once
// A member in the codec `clp`, layer by layer: each layer's tiles need the contexts of the layer
// before, which are kept here. Private to the folder.

#include "clp_coders.hh"
#include "kv/codec/transcode.hh"
#include "kv/container/reader.hh"
#include "workers.hh"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kv {

struct OwnedTile {
  format::TileHeader header;
  Bytes data;
  std::uint64_t frame_offset = 0;
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
  TileSteps steps_of(const format::TileHeader& tile, const TensorProfile& profile, int base) const;

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
