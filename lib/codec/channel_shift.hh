#pragma once
// How `planes` moves a channel before its bytes are split. Private to the folder.

#include "kv/container/tensor.hh"

#include <cstdint>
#include <vector>

namespace kv {

// One number a channel, as in the file. Bit 0: the sign bit is inverted. Bits 5 to 15: added to the
// element's upper bits, thus in eighths of its top byte.
inline constexpr std::uint16_t kInvertSign = 1;
inline constexpr std::uint16_t kShiftBits = 0xFFE0;

// `raw` has a token or more.
std::vector<std::uint16_t> channel_shifts(const TensorView& raw);

// The two halves of a shift for elements of type T: element ^ flip + add, and back.
template <typename T>
struct ChannelMoves {
  std::vector<T> flip, add;

  explicit ChannelMoves(const std::vector<std::uint16_t>& shifts) {
    constexpr int bits = 8 * sizeof(T);
    flip.reserve(shifts.size());
    add.reserve(shifts.size());
    for (const std::uint16_t shift : shifts) {
      flip.push_back(static_cast<T>(static_cast<T>(shift & kInvertSign) << (bits - 1)));
      const std::uint32_t high = std::uint32_t{shift & std::uint32_t{kShiftBits}} << 16;
      add.push_back(static_cast<T>(high >> (32 - bits)));
    }
  }
};

}  // namespace kv
