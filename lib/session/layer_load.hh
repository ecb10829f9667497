#pragma once
// Members of kv streams on their way into the slots of one cache, a layer after the other, while
// the model is at work on those before (CacheBlend, section 5: loading hides computing). Coded
// tiles are decoded.

#include "kv/codec/decoded_source.hh"
#include "kv/model/kv_cache.hh"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kv {

struct LoadPart {
  std::unique_ptr<TileSource> source;
  std::unique_ptr<DecodedSource> decoded;  // over `source`, at the member
  Meta meta;                               // of the member: all layers of the cache, K and V
  std::string name;                        // for messages
  std::int64_t skip = 0;                   // tokens at its beginning that have no place
  std::int64_t first_slot = 0;             // of those behind them
  std::string if_several;                  // what to do, should another member follow
};

struct LayerLoadOptions {
  int threads = 0;           // beside the one that waits, which helps
  std::int64_t ahead = -1;   // layers that may be begun behind the one last waited for; -1: all
  double bytes_per_s = 0;    // read no faster; 0: as fast as it goes
  bool open_layers = false;  // of the cache, when they are begun
  std::function<void(const LoadPart&, const Tile&)> on_hidden = {};  // tiles of E, in order
};

// Layer by layer, and of each layer part by part; so each part needs a stream of its own, or a file
// with an index. One thread at a time reads, the others decode and place.
class LayerLoad {
 public:
  // `cache` holds all slots already, outlives this and stays where it is.
  LayerLoad(std::vector<LoadPart> parts, KvCache& cache, LayerLoadOptions options);
  ~LayerLoad();  // of a load that is not done: stops reading

  // Returns when keys and values of `layer` are in their places; behind the last layer, when all
  // streams have been read to their ends. Throws kInput for what is wrong with them by then. Calls
  // come from one thread.
  void wait(std::int64_t layer);
  // No thread of this touches the cache afterwards. After wait() for the last layer.
  void end_threads();

  double load_s() const;                          // from the beginning to the end; 0 until then
  double layer_load_s(std::int64_t layer) const;  // of one that wait() returned for
  std::uint64_t read_bytes() const;               // of all streams, so far
  // Most layers that were begun, the one last waited for among them, but not yet left behind by it.
  std::int64_t layer_peak() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
