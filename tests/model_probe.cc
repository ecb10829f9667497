// What the model makes of token ids, for comparisons with other programs.
//
//   model_probe MODEL COMPUTE OPS BLOCK IDS OUT      ids of one text, prefilled in blocks of rows
//   model_probe MODEL COMPUTE OPS greedy:N IDS OUT   one text a line; N ids that follow each
//
// COMPUTE is f32, bf16 or f16; OPS fused or plain. The first form writes raw f32: logits of all
// rows, then for each layer its input, its un-rotated keys and its values. The second writes ids.

#include "kv/base/bytes.hh"
#include "kv/base/file.hh"
#include "kv/model/model.hh"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::vector<std::int32_t> ids_of(const std::string& line) {
  std::vector<std::int32_t> ids;
  std::istringstream in(line);
  for (std::int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

void dump(const kv::Model& model, const std::vector<std::int32_t>& ids, std::int64_t block,
          kv::Output& out) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  kv::KvCache cache = model.make_cache({.capacity = tokens, .keep_unrotated_keys = true});
  kv::ForwardOptions options{.logits = kv::LogitRows::kAll, .block = block};
  options.hidden_layers.resize(model.config().layers.size());
  std::iota(options.hidden_layers.begin(), options.hidden_layers.end(), 0);
  const kv::ForwardResult result = model.forward(ids, cache, options);
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
}

void greedy(const kv::Model& model, std::vector<std::int32_t> ids, int count, kv::Output& out) {
  kv::KvCache cache = model.make_cache({.capacity = static_cast<std::int64_t>(ids.size()) + count});
  std::string line;
  for (int i = 0; i < count; ++i) {
    const std::vector<float> logits = model.forward(ids, cache).logits;
    ids = {static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin())};
    line += std::to_string(ids[0]) + (i + 1 < count ? " " : "\n");
  }
  out.write(kv::as_bytes(line));
}

void run(char** argv) {
  const auto checkpoint = kv::Checkpoint::open(argv[1]);
  const auto model = kv::Model::load(
      *checkpoint, {.compute = kv::parse_compute(argv[2]), .plain_ops = argv[3][0] == 'p'});
  const std::string mode = argv[4];
  kv::Output out = kv::Output::create(argv[6], true);
  std::ifstream in(argv[5]);
  for (std::string line; std::getline(in, line);) {
    if (mode.starts_with("greedy:")) {
      greedy(*model, ids_of(line), std::stoi(mode.substr(7)), out);
    } else {
      dump(*model, ids_of(line), std::stol(mode), out);
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
