#pragma once
// Where the simulator's tokens come from: a rate, or the times and sizes of tokens that a model
// made.

#include "kv/base/file.hh"
#include "kv/stream/random.hh"

#include <memory>
#include <optional>
#include <vector>

namespace kv {

// What goes over the wire: text as UTF-8, or ids as varints (packet.hh).
enum class Payload : std::uint8_t { kText, kIds };

struct TimedToken {
  TimeNs at = 0;
  std::uint32_t size_bytes = 0;  // 1 at least
};

// What `kvgen --trace` writes: a line {"t_ns": 12, "id": 34, "text": "..."} a token. A token
// without text of its own, for it ends in the middle of a character, is sent with the next one.
// Throws kInput with the line, also for more than 16 million tokens.
std::vector<TimedToken> read_token_trace(Input input, Payload payload);

struct SourceOptions {
  TimeNs interval = 50 * kMillisecond;
  double jitter = 0;                // an interval is uniform within this share of itself
  std::uint64_t tokens = 1000;      // with a trace: at most
  Payload payload = Payload::kIds;  // without a trace: ids of 2 bytes; text of 1 to 8 bytes, 4.5 on
                                    // average, as English has them
  std::shared_ptr<const std::vector<TimedToken>> trace;
};

// One stream's tokens, one after another, in memory that does not depend on their number.
class TokenSource {
 public:
  // `options` must outlive it.
  TokenSource(const SourceOptions& options, std::uint64_t seed);
  std::optional<TimedToken> next();

 private:
  const SourceOptions* options_;
  Random random_;
  std::uint64_t made_ = 0;
  TimeNs at_ = 0;
};

}  // namespace kv
