#pragma once
// The codec `cachegen-code`, number 17: what CacheGen's public code and LMCache's "cachegen" do,
// which is not what the paper says. A token's row has one scale, its largest magnitude; each
// channel of a chunk is an arithmetic-coded stream by a table that is counted from the chunk and
// kept with it. Private to the folder.

#include "row_codec.hh"

namespace kv {

class CacheGenCodeCodec final : public RowCodec {
 public:
  enum class Tables : std::uint8_t { kShipped = 0, kCompact = 1 };
  static constexpr std::int64_t kMostChunk = 1 << 16;

  // Levels 1 to 3 are the public code's QUANT_LEVEL (2 its default), 4 and 5 have two and four
  // times the bins of 3. Tables are shared by `chunk` tokens, 1 to kMostChunk.
  CacheGenCodeCodec(int level, Tables tables, std::int64_t chunk, bool rope);
  CacheGenCodeCodec() : RowCodec("cachegen-code") {}  // decodes
  std::uint16_t id() const override { return format::kCacheGenCode; }

 protected:
  bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const override;
  void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const override;

 private:
  int level_ = 0;
  Tables tables_ = Tables::kShipped;
  std::int64_t chunk_ = 0;
};

}  // namespace kv
