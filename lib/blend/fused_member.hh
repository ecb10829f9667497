#pragma once
// The fused cache as a member of kv(5), written a layer at a time.

#include "kv/blend/pieces.hh"
#include "kv/container/writer.hh"
#include "kv/session/session.hh"

#include <cstdint>
#include <vector>

namespace kv {

class FusedMember {
 public:
  // Begins the member. `cache` holds the layout's slots and keeps un-rotated keys; all arguments
  // but the history outlive this. Throws kUsage for int8, a codec's business.
  FusedMember(const Session& session, const Layout& layout, const KvCache& cache, DType dtype,
              std::vector<HistoryEntry> history, Writer& writer);
  // Keys and values of the next layer, as they are now.
  void write_layer(std::int64_t layer);
  // Behind the last layer.
  void end();

 private:
  const KvCache& cache_;
  Meta meta_;
  Writer& writer_;
};

}  // namespace kv
