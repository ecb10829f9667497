#pragma once
// The bytes of a tile of the codec `clp`: quantised coefficients, the steps of the tokens, and the
// tokens that are stored as they are. Layout in kv(5). Private to the folder.

#include "kv/codec/profile.hh"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kv {

inline constexpr std::int64_t kMostTileTokens = 1 << 15;
inline constexpr std::int64_t kMostTileValues = 1 << 24;
inline constexpr int kStepGrid = kOctave / 2;  // a token's step is a multiple of half an octave
inline constexpr int kMostTokenStep = 16;      // half octaves, either way
inline constexpr int kMostBaseStep = 64;       // eighths of an octave, either way

// Four values of a token together: u8 [channels / 4][stride][4], each plus 128.
class Quads {
 public:
  Quads() = default;
  Quads(std::int64_t channels, std::int64_t tokens)
      : channels_(channels), stride_((tokens + 63) / 64 * 64) {
    data_.assign(static_cast<std::size_t>(channels * stride_), 128);
  }
  std::uint8_t& at(std::int64_t channel, std::int64_t token) {
    return data_[static_cast<std::size_t>((channel / 4 * stride_ + token) * 4 + channel % 4)];
  }
  int value(std::int64_t channel, std::int64_t token) const {
    return const_cast<Quads*>(this)->at(channel, token) - 128;
  }
  std::uint8_t* quad(std::int64_t index) { return data_.data() + index * stride_ * 4; }
  const std::uint8_t* data() const { return data_.data(); }
  std::int64_t channels() const { return channels_; }
  std::int64_t stride_tokens() const { return stride_; }  // a multiple of 64

 private:
  std::int64_t channels_ = 0, stride_ = 0;
  std::vector<std::uint8_t> data_;
};

struct TileSteps {
  int base = 0;                      // of the tile: eighths of an octave beside the profile's step
  std::vector<std::int8_t> tokens;   // of each token: half octaves beside the base; all there
  std::vector<std::uint16_t> exact;  // tokens that are stored as they are, ascending

  int eighths(std::size_t token) const { return base + kStepGrid * tokens[token]; }
};

struct TileCode {
  TileSteps steps;
  Quads coefficients;     // [coefficients], tokens that are exact all 0
  std::int64_t used = 0;  // coefficients at this or a later index are all 0
  ByteView exact_rows;    // of steps.exact, in the dtype
};

// `near` are the steps of the tensor that was decoded before, for the same tokens, or null.
// Coefficients that no class codes become 0 in `code`, as a decoder will see them.
Bytes write_tile_code(const TensorProfile& profile, std::uint64_t profile_hash, TileCode& code,
                      const std::vector<std::int8_t>* near);
// Views into `data` stay. Throws kInput, with `place`.
TileCode read_tile_code(const TensorProfile& profile, std::int64_t tokens, std::size_t row_bytes,
                        const std::vector<std::int8_t>* near, ByteView data,
                        const std::string& place);
// The profile that the tile needs.
std::uint64_t profile_of(ByteView data, const std::string& place);

}  // namespace kv
