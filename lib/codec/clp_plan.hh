#pragma once
// Which symbols a tile of quantised coefficients has, in which order: known to both ends once the
// steps of its tokens are. kv(5), "Symbols". Private to the folder.

#include "kv/codec/classes.hh"
#include "kv/kernels/rans.hh"

#include <cstdint>
#include <span>
#include <vector>

namespace kv {

inline constexpr int kStepGrid = kOctave / 2;  // a token's step is a multiple of half an octave
inline constexpr int kMostTokenStep = 16;      // half octaves, either way
inline constexpr int kMostBaseStep = 64;       // eighths of an octave, either way

struct TileSteps {
  int base = 0;                      // of the tile: eighths of an octave beside the profile's step
  std::vector<std::int8_t> tokens;   // of each token: half octaves beside the base; all there
  std::vector<std::uint16_t> exact;  // tokens that are stored as they are, ascending

  int eighths(std::size_t token) const { return base + kStepGrid * tokens[token]; }
};

class SymbolPlan {
 public:
  // Classes of the coefficients at the step 0, as many as there are coefficients, a multiple of 4.
  // Steps of tokens are within kMostTokenStep.
  SymbolPlan(std::span<const Shape> shape, std::span<const std::int8_t> sigma,
             const TileSteps& steps);

  std::int64_t coefficients() const { return static_cast<std::int64_t>(rows_.size()); }
  // One entry for 32 symbols.
  std::span<const RansStep> steps() const { return steps_; }
  std::uint32_t planes() const { return planes_; }  // words of low bits
  // Coefficients from here on have no symbol in any token.
  std::int64_t used() const { return used_; }

  // Tokens that have symbols, those of one step together: 32 a group, the last what is left.
  std::int64_t groups() const { return (std::ssize(order_) + kLanes - 1) / kLanes; }
  std::span<const std::uint16_t> lanes(std::int64_t group) const {
    const auto first = static_cast<std::size_t>(group * kLanes);
    return std::span(order_).subspan(first, std::min<std::size_t>(kLanes, order_.size() - first));
  }
  std::span<const std::uint16_t> order() const { return order_; }
  // The first token of a full group whose tokens follow one another; -1: they do not.
  std::int64_t straight_from(std::int64_t group) const {
    return straight_from_[static_cast<std::size_t>(group)];
  }

  // A coefficient has symbols in its first groups: finer steps make it wider.
  struct Row {
    std::uint32_t first_step = 0;
    std::uint32_t groups = 0;
  };
  const Row& row(std::int64_t coefficient) const {
    return rows_[static_cast<std::size_t>(coefficient)];
  }
  // Steps that have low bits, ascending.
  struct LowBits {
    std::uint32_t first_step = 0, steps = 0;
    std::uint32_t first_plane = 0;
    std::uint8_t bits = 0;
  };
  std::span<const LowBits> low_bits() const { return low_bits_; }

  static constexpr std::int64_t kLanes = kRansLanes;

 private:
  // Neighbouring groups of one step.
  struct Run {
    std::uint32_t first_group, groups;
    int eighths;
  };
  std::vector<Run> sort_tokens(const TileSteps& steps);
  std::uint16_t last_lanes() const {
    return static_cast<std::uint16_t>(lanes(groups() - 1).size());
  }

  std::vector<std::uint16_t> order_;
  std::vector<std::int32_t> straight_from_;  // by group
  std::vector<RansStep> steps_;
  std::vector<Row> rows_;
  std::vector<LowBits> low_bits_;
  std::uint32_t planes_ = 0;
  std::int64_t used_ = 0;
};

}  // namespace kv
