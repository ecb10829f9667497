#pragma once
// The entropy coder: rANS of 32 interleaved lanes, as kv(5) lays it down. 32-bit states that are
// never below 2^16, probabilities in 1/4096, renormalisation by one 16-bit word.
//
// A stream is a list of steps, known to both sides. A step codes one symbol in each of its lanes
// 0..lanes-1 by one table. Bytes: 32 initial states (u32), then the words (u16) in the order of
// use, all little-endian; lanes take words lowest lane first. Afterwards every state is 2^16 and no
// word is left, or the stream is damaged.
//
// The scalar code is the definition; all targets write and read the same bytes.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace kv {

inline constexpr std::size_t kRansLanes = 32;
inline constexpr std::uint32_t kRansLow = 1u << 16;  // the least state, and the last
inline constexpr unsigned kRansScaleBits = 12;
inline constexpr std::size_t kRansStateBytes = 4 * kRansLanes;
inline constexpr std::size_t kRansMaxTables = 1024;
inline constexpr std::size_t kRansMaxSteps = std::size_t{1} << 26;  // positions fit 32 bits
inline constexpr std::int8_t kRansEscape = -128;

struct RansStep {
  std::uint16_t table = 0;
  std::uint16_t lanes = kRansLanes;  // 1..32
};

struct RansRow;  // kernels/rans_row.hh

// The tables of a profile. A row is the frequencies of n = 4, 8, 16 or 32 symbols, each at least 1,
// their sum 4096. Symbol s < n - 1 is the value s - (n / 2 - 1): -1..1, -3..3, -7..7 or -15..15.
// Symbol n - 1 is the escape, any other value. Immutable once built: threads may share it.
class RansTables {
 public:
  // At most 1,024 rows. Throws std::invalid_argument, which names the row.
  explicit RansTables(std::span<const std::span<const std::uint16_t>> frequencies);
  ~RansTables();
  RansTables(RansTables&&) noexcept;
  RansTables& operator=(RansTables&&) noexcept;

  std::size_t size() const { return count_; }
  int symbols(std::size_t table) const;
  const RansRow* rows() const { return rows_.get(); }

 private:
  std::unique_ptr<RansRow[]> rows_;
  std::size_t count_ = 0;
};

// Fastest last. kAvx512 needs VBMI2 too: Ice Lake, Zen 4 and what came after.
enum class RansTarget { kScalar, kAvx2, kAvx512 };
const char* rans_target_name(RansTarget target);
bool rans_has_target(RansTarget target);  // can this machine run it?
RansTarget rans_best_target();
// What calls that name no target use: the best, or for tests and benchmarks what was set last.
RansTarget rans_target();
void set_rans_target(RansTarget target);
// The target that the last call of this thread really ran: each target's own code says so.
RansTarget rans_last_target();

// One stream to decode. Jobs are independent of each other; targets decode several at a time.
struct RansDecodeJob {
  std::span<const std::byte> stream;
  std::span<const RansStep> steps;
  std::int8_t* values = nullptr;     // out: 32 a step; kRansEscape for an escape, 0 in idle lanes
  std::span<std::uint32_t> escapes;  // out: step * 32 + lane of each escape, ascending
  // Set by rans_decode. A stream with more escapes than `escapes` has room for is not intact.
  std::size_t escape_count = 0;
  bool intact = false;
};

// True when all jobs are intact. Of a damaged stream the outputs are anything, but nothing is read
// or written outside the spans, whatever bytes and steps are. Throws std::invalid_argument for a
// target that this machine lacks.
[[nodiscard]] bool rans_decode(const RansTables& tables, std::span<RansDecodeJob> jobs,
                               RansTarget target = rans_target());

struct RansEncodeJob {
  std::span<const RansStep> steps;
  const std::int8_t* values = nullptr;    // 32 a step; idle lanes are not looked at
  std::vector<std::byte>* out = nullptr;  // the stream is appended
};

// Values out of their table's range become escapes; who encodes keeps them elsewhere. Throws
// std::invalid_argument for steps without a table, of no lane or of more than 32.
void rans_encode(const RansTables& tables, std::span<const RansEncodeJob> jobs,
                 RansTarget target = rans_target());

}  // namespace kv
