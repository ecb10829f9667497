#include "kv/calibrate/quality_map.hh"

#include "kv/codec/profiles.hh"
#include "kv/codec/transcode.hh"
#include "kv/session/cache_load.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>

#include <filesystem>

namespace kv {
namespace {

// What the model says behind the cache in a file, log probabilities [continuation, vocabulary].
at::Tensor answers(const Session& session, const std::string& path, std::int64_t context,
                   std::span<const std::int32_t> continuation) {
  const auto count = static_cast<std::int64_t>(continuation.size());
  std::optional<CacheFile> file = read_cache(Input::open(path), session, {.extra_tokens = count});
  if (!file) fail_input("{}: empty", path);
  file->cache.truncate(context);
  std::vector<float> logits =
      session.model->forward(continuation, file->cache, {.logits = LogitRows::kAll}).logits;
  const auto vocabulary = static_cast<std::int64_t>(logits.size()) / count;
  return at::log_softmax(
      at::from_blob(logits.data(), {count, vocabulary}, at::TensorOptions(at::kFloat)), 1);
}

std::uint64_t encode(const std::string& from, const std::string& to, std::int64_t context,
                     const TranscodeOptions& chosen, ClpOptions clp) {
  TranscodeOptions options = chosen;
  options.tokens = {0, context};
  options.clp = std::move(clp);
  TileSource source(from);
  Output output = Output::create(to, true);
  Writer writer(output);
  transcode(source, writer, options);
  output.commit();
  return std::filesystem::file_size(to);
}

}  // namespace

std::vector<ProfilePoint> measure_map(const Session& session, const Samples& samples,
                                      const std::shared_ptr<const Profile>& profile,
                                      const MapOptions& options) {
  std::vector<ProfilePoint> map;
  if (samples.fitted() == samples.windows()) return map;
  for (const int step : options.steps) map.push_back({.step = step});
  add_profile(profile);
  // Runs for other levels may be at work in the same folder.
  const std::string coded = fmt::format("{}/map.l{}.kvz", options.work_dir, profile->level);
  double values = 0, predictions = 0;
  for (std::size_t w = samples.fitted(); w < samples.windows(); ++w) {
    const std::int64_t tokens = samples.tokens(w),
                       continuation = std::min(options.continuation, tokens / 4),
                       context = tokens - continuation;
    const std::vector<std::int32_t> ids = samples.ids(w);
    const auto end = std::span(ids).subspan(static_cast<std::size_t>(context));
    const at::Tensor reference = answers(session, samples.path(w), context, end);
    const at::Tensor weights = reference.exp();
    for (ProfilePoint& point : map) {
      point.bits += 8.0 * static_cast<double>(
                              encode(samples.path(w), coded, context, {.threads = options.threads},
                                     {.profile = profile, .base_step = point.step}));
      const at::Tensor answer = answers(session, coded, context, end);
      point.kld += (weights * (reference - answer)).sum().item<double>();
      if (options.on_point) options.on_point();
    }
    for (const TensorProfile& tensor : profile->tensors) {
      values += static_cast<double>(context * tensor.channels);
    }
    predictions += static_cast<double>(continuation);
  }
  std::filesystem::remove(coded);
  for (ProfilePoint& point : map) {
    point.bits /= values;
    point.kld /= predictions;
  }
  return map;
}

}  // namespace kv
