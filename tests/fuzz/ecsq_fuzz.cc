// The data of a tile of the codec `ecsq` from anywhere: values or a clear refusal. Three bytes
// first: dtype and the share of the data that a refinement has, tokens, channels.

#include "kv/codec/ecsq_tile.hh"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const kv::TensorView shape = {
      static_cast<kv::DType>(1 + data[0] % 5), {1 + data[1], 1, 1 + data[2]}, {}};
  kv::Bytes rows(static_cast<std::size_t>(shape.shape[0]) * shape.row_bytes());
  const kv::ByteView bytes(reinterpret_cast<const std::byte*>(data + 3), size - 3);
  // 0 to 7 eighths.
  const std::size_t refinement = bytes.size() / 8 * (data[0] / 5 % 8);
  const kv::ByteView qualities[] = {bytes.first(bytes.size() - refinement), bytes.last(refinement)};
  try {
    kv::decode_ecsq(std::span(qualities).first(refinement > 0 ? 2 : 1), shape, "fuzz", rows);
  } catch (const kv::Error& error) {
    if (error.kind() != kv::ErrorKind::kInput) std::abort();
    return 0;
  }
  // What decodes can be coded.
  kv::TensorView view = shape;
  view.bytes = rows;
  if (const auto again = kv::encode_ecsq(view, {.refinements = 1})) {
    const std::vector<kv::ByteView> both(again->begin(), again->end());
    kv::decode_ecsq(both, shape, "again", rows);
  }
  return 0;
}
