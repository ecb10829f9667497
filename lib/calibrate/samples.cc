#include "kv/calibrate/samples.hh"

#include "kv/base/hash.hh"
#include "kv/checkpoint/card.hh"
#include "kv/container/writer.hh"
#include "kv/model/rope.hh"
#include "kv/prefill/prefill.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <filesystem>
#include <random>

namespace kv {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLeastWindow = 64;
constexpr std::int64_t kSampledQueries = 128;  // of a window and layer
constexpr std::int64_t kDistances = 4;         // of each

// Queries as keys `distance` tokens before them see them: rotated by that much.
at::Tensor seen_from(const at::Tensor& queries, const Rope& rope,
                     const std::vector<std::int32_t>& distances) {
  const std::int64_t dim = queries.size(2);
  const RopeAngles angles = rope_angles(rope, inverse_frequencies(rope, dim), distances);
  const at::Tensor cos = angles.cos.unsqueeze(1), sin = angles.sin.unsqueeze(1);
  const at::Tensor a = queries.narrow(2, 0, dim / 2), b = queries.narrow(2, dim / 2, dim / 2);
  return at::cat({a * cos - b * sin, b * cos + a * sin}, 2);
}

// Sum over sampled queries of w w^T, f64 [kv heads, dim, dim].
at::Tensor metric_of(const Session& session, std::int64_t layer, const at::Tensor& hidden,
                     std::mt19937_64& random) {
  const LayerGeometry& geometry = session.model->config().layers[static_cast<std::size_t>(layer)];
  const std::int64_t rows = hidden.size(0),
                     step = std::max<std::int64_t>(1, rows / kSampledQueries);
  std::vector<at::Tensor> picked;
  std::vector<std::int32_t> distances;
  for (std::int64_t row = step - 1; row < rows; row += step) {
    for (std::int64_t i = 0; i < kDistances; ++i) {
      picked.push_back(hidden.narrow(0, row, 1));
      distances.push_back(
          static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(row + 1)));
    }
  }
  const at::Tensor queries = session.model->queries(layer, at::cat(picked, 0));
  const at::Tensor seen = seen_from(queries, geometry.rope, distances)
                              .unflatten(1, {geometry.kv_heads, -1})
                              .to(at::kDouble);
  return at::einsum("rhgi,rhgj->hij", {seen, seen}) /
         static_cast<double>(seen.size(0) * seen.size(2));
}

// Of the model, the seed and the tokens: other caches may lie in the same folder.
std::string path_of(const Session& session, const SampleOptions& options,
                    const std::vector<std::int32_t>& ids) {
  const std::uint64_t seed = xxh3_64(as_bytes(session.identity.fingerprint), options.seed);
  return fmt::format("{}/{:016x}.kv", options.work_dir,
                     xxh3_64(std::as_bytes(std::span(ids)), seed));
}

struct Windows {
  std::vector<std::vector<std::int32_t>> ids;  // those held out last
  std::size_t fitted = 0;
};

Windows windows_of(const Tokenizer& tokenizer, const std::vector<Document>& documents,
                   const SampleOptions& options) {
  const auto window = static_cast<std::size_t>(options.window);
  std::vector<std::vector<std::int32_t>> texts;
  for (const Document& document : documents) {
    texts.push_back(document.tokens ? *document.tokens : tokenizer.encode(document.text, false));
  }
  const std::int64_t most =
      options.most_tokens + static_cast<std::int64_t>(options.held_out) * options.window;
  std::vector<std::vector<std::int32_t>> all;
  std::int64_t taken = 0;
  bool more = true;
  for (std::size_t begin = 0; more && taken < most; begin += window) {
    more = false;
    for (const std::vector<std::int32_t>& text : texts) {
      if (begin >= text.size() || taken >= most) continue;
      more = true;
      const std::size_t count = std::min(window, text.size() - begin);
      if (count < static_cast<std::size_t>(kLeastWindow)) continue;
      const auto first = text.begin() + static_cast<std::ptrdiff_t>(begin);
      all.emplace_back(first, first + static_cast<std::ptrdiff_t>(count));
      taken += static_cast<std::int64_t>(count);
    }
  }
  // Held out evenly from all.
  const std::size_t held = all.size() >= 4 * options.held_out ? options.held_out : 0;
  Windows out{.fitted = all.size() - held};
  std::vector<std::vector<std::int32_t>> last;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_held = (i + 1) * held / all.size() > i * held / all.size();
    (is_held ? last : out.ids).push_back(std::move(all[i]));
  }
  for (auto& ids : last) out.ids.push_back(std::move(ids));
  return out;
}

}  // namespace

Samples::Samples(const Session& session, const std::vector<Document>& documents,
                 const SampleOptions& options) {
  fs::create_directories(options.work_dir);
  const Windows windows = windows_of(*session.tokenizer, documents, options);
  if (windows.ids.empty()) fail_input("the texts have no {} tokens in one piece", kLeastWindow);
  fitted_ = windows.fitted;
  if (options.on_total) {
    std::int64_t total = 0;
    for (const auto& ids : windows.ids) total += static_cast<std::int64_t>(ids.size());
    options.on_total(total, fitted_, windows.ids.size() - fitted_);
  }
  for (const std::vector<std::int32_t>& ids : windows.ids) {
    const std::string& path = paths_.emplace_back(path_of(session, options, ids));
    if (!fs::exists(path)) prefill(session, ids, path, options, files_.size());
    files_.push_back(std::make_unique<IndexedFile>(path));
    importance_.push_back(files_.back()->importance(0));
    if (files_.size() <= fitted_) add_metrics(path);
    if (options.on_tokens) options.on_tokens(static_cast<std::int64_t>(ids.size()));
  }
}

void Samples::prefill(const Session& session, const std::vector<std::int32_t>& ids,
                      const std::string& path, const SampleOptions& options, std::uint64_t number) {
  const Model& model = *session.model;
  const auto count = static_cast<std::int64_t>(ids.size());
  const auto layers = static_cast<std::int64_t>(model.config().layers.size());
  KvCache cache = model.make_cache({.capacity = count, .keep_unrotated_keys = true});
  ForwardOptions forward{.logits = LogitRows::kNone, .importance = true};
  for (std::int64_t layer = 0; layer < layers; ++layer) forward.hidden_layers.push_back(layer);
  ForwardResult result = model.forward(ids, cache, forward);
  std::mt19937_64 random(options.seed + number);
  Output metrics = Output::create(path + ".metric", true);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    std::vector<float>& hidden = result.hidden[static_cast<std::size_t>(layer)];
    const at::Tensor metric =
        metric_of(session, layer, model.hidden_from(hidden), random).contiguous();
    metrics.write({static_cast<const std::byte*>(metric.const_data_ptr()), metric.nbytes()});
    hidden = {};
  }
  metrics.commit();
  Meta meta;
  meta.model = session.identity;
  meta.layers = layers_of(model.config());
  meta.dtype = DType::kBF16;
  meta.token_count = count;
  Output output = Output::create(path, true);
  Writer writer(output);
  writer.begin_member(meta, ids, importance_of(result, meta, 0));
  Bytes bytes;
  for (const auto& [layer, kind] : meta.tensors()) {
    TensorView view = meta.shape_of({.kind = kind,
                                     .dtype = meta.dtype,
                                     .layer = layer,
                                     .token_count = static_cast<std::uint32_t>(count)});
    bytes.resize(static_cast<std::size_t>(count) * view.row_bytes());
    cache.save(layer, kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues, 0, count,
               meta.dtype, bytes);
    view.bytes = bytes;
    const auto tile_count = static_cast<std::uint32_t>(count);
    writer.write_tile(
        {.kind = kind, .dtype = meta.dtype, .layer = layer, .token_count = tile_count}, view.bytes);
  }
  writer.end_member();
  output.commit();
}

void Samples::add_metrics(const std::string& path) {
  Input input = Input::open(path + ".metric");
  for (std::size_t i = 0; i < meta().layers.size(); ++i) {
    const LayerGeometry& geometry = meta().layers[i].geometry;
    at::Tensor metric = at::zeros({geometry.kv_heads, geometry.k_dim, geometry.k_dim},
                                  at::TensorOptions(at::kDouble));
    const std::span<std::byte> into(static_cast<std::byte*>(metric.mutable_data_ptr()),
                                    metric.nbytes());
    if (input.read(into) != into.size()) fail_input("{}: too short; remove it", input.name());
    if (i == metrics_.size()) metrics_.push_back(at::zeros_like(metric));
    metrics_[i] += metric;
  }
}

std::int64_t Samples::tokens(std::size_t window) const {
  return files_[window]->meta(0).token_count;
}

std::vector<std::int32_t> Samples::ids(std::size_t window) const {
  return files_[window]->tokens(0);
}

TensorView Samples::rows(std::size_t window, std::uint32_t layer, format::Kind kind) const {
  const IndexedFile& file = *files_[window];
  const std::vector<format::IndexEntry>& index = file.index(0);
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i].tile.layer == layer && index[i].tile.kind == kind) {
      return file.tile(0, i).view(file.meta(0));
    }
  }
  throw std::logic_error("a sample without a layer");
}

std::span<const std::uint8_t> Samples::importance(std::size_t window, std::uint32_t layer,
                                                  format::Kind kind) const {
  const auto count = static_cast<std::size_t>(tokens(window));
  const auto rows = importance_rows(meta());
  const auto found = std::find(rows.begin(), rows.end(), std::pair{layer, kind});
  return std::span(importance_[window])
      .subspan(static_cast<std::size_t>(found - rows.begin()) * count, count);
}

const at::Tensor& Samples::query_metric(std::uint32_t layer) const { return metrics_.at(layer); }

at::Tensor floats(const TensorView& rows) {
  at::Tensor out = at::empty({rows.shape[0], rows.row_values()}, at::TensorOptions(at::kFloat));
  convert(rows.bytes, rows.dtype, {static_cast<std::byte*>(out.mutable_data_ptr()), out.nbytes()},
          DType::kF32);
  return out;
}

}  // namespace kv
