#pragma once
// The codec `cachegen`, number 16: CacheGen as its paper (arXiv 2310.07240) has it. Of each ten
// tokens the first is an anchor of 8 bits, the others are differences to it as it will be decoded,
// with a step by layer; symbols are coded by distributions that a profile has for each channel.
// Private to the folder.

#include "kv/codec/cachegen_profile.hh"
#include "row_codec.hh"

namespace kv {

class CacheGenCodec final : public RowCodec {
 public:
  CacheGenCodec() : RowCodec("cachegen") {}  // decodes
  // Throws kUsage for a level that the profile has not.
  CacheGenCodec(std::shared_ptr<const CacheGenProfile> profile, int level);
  std::uint16_t id() const override { return format::kCacheGen; }

 protected:
  bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const override;
  void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const override;

 private:
  std::shared_ptr<const CacheGenProfile> profile_;
  int level_ = 0;
};

// Rows as symbols: 8-bit anchors, deltas in steps. What is counted is what is coded.
struct CacheGenSymbols {
  std::int64_t tokens = 0, channels = 0;
  std::vector<std::uint16_t> anchor_scales, delta_scales;  // f16, in the order of tokens
  std::vector<std::int32_t> values;                        // [tokens][channels]
  bool possible = true;                                    // the scales hold the rows

  static bool is_anchor(std::int64_t token) { return token % CacheGenProfile::kGroupTokens == 0; }
  std::int64_t anchors() const {
    return (tokens + CacheGenProfile::kGroupTokens - 1) / CacheGenProfile::kGroupTokens;
  }

  // `step` is the level's. Reuses the vectors.
  void quantise(std::span<const float> rows, std::int64_t row_channels, float step);
  void dequantise(std::span<float> rows, float step) const;
};

}  // namespace kv
