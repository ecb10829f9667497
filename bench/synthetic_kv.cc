// synthetic_kv LAYERS TOKENS >big.kv: one member of raw bf16 with 8 heads of 128, 4 KiB a token and
// layer. The values do not compress.
#include "kv/container/writer.hh"

#include <cstdio>
#include <cstdlib>
#include <numeric>

namespace {

void write_synthetic(std::uint32_t layers, std::int64_t tokens) {
  kv::Meta meta;
  meta.model.name = "synthetic";
  meta.model.architecture = "llama";
  meta.token_count = tokens;
  for (std::uint32_t i = 0; i < layers; ++i) {
    kv::LayerMeta layer;
    layer.index = i;
    layer.geometry.kv_heads = 8;
    layer.geometry.k_dim = layer.geometry.v_dim = 128;
    meta.layers.push_back(layer);
  }
  std::vector<std::uint64_t> words(static_cast<std::size_t>(tokens) * 8 * 128 * 2 / 8);
  std::uint64_t state = 1;
  for (std::uint64_t& word : words) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    word = state ^ (state >> 29);
  }
  const kv::TensorView tensor{kv::DType::kBF16, {tokens, 8, 128}, std::as_bytes(std::span(words))};
  kv::Output output = kv::Output::create("-", false);
  kv::Writer writer(output);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 0);
  writer.begin_member(meta, ids);
  for (const auto& [layer, kind] : meta.tensors()) writer.write_raw(kind, layer, tensor);
  writer.end_member();
  output.commit();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    write_synthetic(static_cast<std::uint32_t>(std::atoi(argv[1])), std::atoll(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "synthetic_kv: %s\n", error.what());
    return 1;
  }
  return 0;
}
