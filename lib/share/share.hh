#pragma once
// A cache of model A made into one of model B, as DroidSpeak does it (section 5): layers outside
// the group come as they are, those of the group are recomputed with B's weights while the others
// are still being read, and all leave in their order.

#include "kv/container/writer.hh"
#include "kv/session/session.hh"
#include "kv/share/share_plan.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct ShareOptions {
  LayerGroup group;
  const SharePlan* plan = nullptr;  // when given, the file must be of its model A
  // A's model makes E at the group's first layer, where the file does not keep it.
  const Session* hidden_from = nullptr;
  std::optional<DType> dtype;         // of the result; unset: the file's
  double bytes_per_s = 0;             // read no faster; 0: as fast as it goes
  std::vector<HistoryEntry> history;  // of this step; empty: none is kept, of earlier ones either
};

struct ShareReport {
  std::int64_t tokens = 0, layers = 0;
  std::uint64_t read_bytes = 0;
  double load_s = 0;     // from the beginning until all that is reused had been read
  double hidden_s = 0;   // until E was there
  double compute_s = 0;  // of the group's layers
  double total_s = 0;    // until the last layer was written
};

// The one member of a stream; a regular file with an index gives E first, and is not read where
// the group is recomputed. `session` is B's, its weights loaded. Throws kInput, naming the file:
// of another geometry or vocabulary, not of the plan's A, without the E that is needed, with RoPE
// applied, not the beginning of a text, or several members.
class Share {
 public:
  Share(Input input, const Session& session, ShareOptions options);
  ~Share();

  // What the result will say of itself.
  const Meta& meta() const;
  const LayerGroup& group() const;
  ShareReport run(Writer& writer);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
