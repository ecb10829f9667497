#pragma once
// The codec `raw`, number 0: the elements as they are. Private to the folder.

#include "kv/codec/codec.hh"

#include <algorithm>

namespace kv {

class RawCodec final : public Codec {
 public:
  std::uint16_t id() const override { return format::kRaw; }
  std::string_view name() const override { return "raw"; }
  bool lossless() const override { return true; }
  Bytes encode(const format::TileHeader&, const TensorView& raw) const override {
    return {raw.bytes.begin(), raw.bytes.end()};
  }
  void decode(const format::TileHeader&, ByteView coded, const std::string& place,
              std::span<std::byte> raw) const override {
    if (coded.size() != raw.size()) {
      fail_input("{}: {} bytes of data where {} are due", place, coded.size(), raw.size());
    }
    std::copy(coded.begin(), coded.end(), raw.begin());
  }
};

}  // namespace kv
