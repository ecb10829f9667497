#pragma once
// Rotary position embedding of stored keys: "Rope" of kv(5), without LibTorch.

#include "kv/container/geometry.hh"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace kv {

// Radians a position for each of the dim / 2 pairs, rounded to f32 as model code keeps them.
std::vector<float> rope_frequencies(const Rope& rope, std::int64_t dim);

// The turns of consecutive positions, for many keys of them: of several layers, by several threads.
class RopeTable {
 public:
  enum class Turn { kForth, kBack };
  // Calls a function with 0 to `count` - 1, in any order; some at the same time.
  using Each = std::function<void(std::size_t count, const std::function<void(std::size_t)>&)>;

  RopeTable(const Rope& rope, std::int64_t dim, std::uint64_t first_position,
            std::int64_t positions, Turn turn, const Each& each = {});

  // `rows` are keys [tokens][heads][dim], the first of position first_position + first.
  void turn(std::int64_t first, std::int64_t heads, std::span<float> rows) const;

  // For others who turn: (a, b) of pair i becomes (a c - b s, b c + a s), each operation rounded.
  std::size_t half() const { return half_; }
  const float* cosines(std::int64_t position) const { return at(cosines_, position); }
  const float* sines(std::int64_t position) const { return at(sines_, position); }

 private:
  const float* at(const std::vector<float>& all, std::int64_t position) const {
    return all.data() + static_cast<std::size_t>(position) * half_;
  }

  std::size_t half_;
  std::vector<float> cosines_, sines_;  // [positions][dim / 2]
};

// `rows` are keys [tokens][heads][dim] of consecutive positions; each is turned in place, in f32.
// `dim` is even. Un-rotating gives the keys back but for roundings of f32, and numbers that are
// not finite where `attention_factor` is 0.
void rotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                 std::int64_t dim, std::span<float> rows);
void unrotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                   std::int64_t dim, std::span<float> rows);

}  // namespace kv
