// model_probe MODEL COMPUTE OPS BLOCK IDS OUT: what the model makes of the ids in file IDS, as raw
// f32, for comparisons with other programs: logits of all rows, then for each layer its input, its
// un-rotated keys and its values. OPS is fused or plain.

#include "kv/base/bytes.hh"
#include "kv/base/file.hh"
#include "kv/model/model.hh"

#include <cstdio>
#include <fstream>
#include <numeric>
#include <vector>

namespace {

void run(char** argv) {
  const auto checkpoint = kv::Checkpoint::open(argv[1]);
  const auto model = kv::Model::load(
      *checkpoint, {.compute = kv::parse_compute(argv[2]), .plain_ops = argv[3][0] == 'p'});
  std::vector<std::int32_t> ids;
  std::ifstream in(argv[5]);
  for (std::int32_t id; in >> id;) ids.push_back(id);
  const auto tokens = static_cast<std::int64_t>(ids.size());

  kv::KvCache cache = model->make_cache({.capacity = tokens, .keep_unrotated_keys = true});
  kv::ForwardOptions options{.logits = kv::LogitRows::kAll, .block = std::stol(argv[4])};
  options.hidden_layers.resize(model->config().layers.size());
  std::iota(options.hidden_layers.begin(), options.hidden_layers.end(), 0);
  const kv::ForwardResult result = model->forward(ids, cache, options);

  kv::Output out = kv::Output::create(argv[6], true);
  out.write(std::as_bytes(std::span(result.logits)));
  for (std::int64_t layer = 0; layer < cache.layer_count(); ++layer) {
    out.write(std::as_bytes(std::span(result.hidden[static_cast<std::size_t>(layer)])));
    const kv::LayerGeometry& geometry = cache.geometry(layer);
    for (const auto& [part, dim] : {std::pair(kv::CachePart::kKeys, geometry.k_dim),
                                    std::pair(kv::CachePart::kValues, geometry.v_dim)}) {
      kv::Bytes rows(static_cast<std::size_t>(tokens * geometry.kv_heads * dim) * sizeof(float));
      cache.save(layer, part, 0, tokens, kv::DType::kF32, rows);
      out.write(rows);
    }
  }
  out.commit();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  try {
    run(argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_probe: %s\n", error.what());
    return 1;
  }
}
