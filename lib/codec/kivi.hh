#pragma once
// The codec `kivi`, number 10, after KIVI (arXiv 2402.02750): keys share a scale by channel over a
// group of tokens, values by token over a group of channels; both are asymmetric. Private to the
// folder.

#include "row_codec.hh"

namespace kv {

class KiviCodec final : public RowCodec {
 public:
  // 2 to 4 bits a value, 8 to 128 values a group.
  KiviCodec(int bits, int group, bool rope);
  KiviCodec() : RowCodec("kivi") {}  // decodes
  std::uint16_t id() const override { return format::kKivi; }

 protected:
  bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const override;
  void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const override;

 private:
  int bits_ = 0, group_ = 0;
};

}  // namespace kv
