#pragma once
// The codecs `q8_0` and `q4_0`, numbers 8 and 9: the blocks in which llama.cpp keeps its cache, bit
// for bit as ggml's reference makes them. Private to the folder.

#include "row_codec.hh"

namespace kv {

class Q8Codec final : public RowCodec {
 public:
  explicit Q8Codec(bool rope = false) : RowCodec("q8_0", rope) {}
  std::uint16_t id() const override { return format::kQ8_0; }

 protected:
  bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const override;
  void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const override;
};

class Q4Codec final : public RowCodec {
 public:
  explicit Q4Codec(bool rope = false) : RowCodec("q4_0", rope) {}
  std::uint16_t id() const override { return format::kQ4_0; }

 protected:
  bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const override;
  void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const override;
};

}  // namespace kv
