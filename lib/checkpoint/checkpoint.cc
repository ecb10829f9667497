#include "kv/checkpoint/checkpoint.hh"

#include "gguf_checkpoint.hh"
#include "hf_checkpoint.hh"
#include "lora_checkpoint.hh"

#include <sys/stat.h>

#include <tuple>

namespace kv {

namespace {

std::unique_ptr<Checkpoint> open_plain(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) fail_errno("stat " + path);
  if (S_ISDIR(status.st_mode)) return std::make_unique<HfCheckpoint>(path);
  return std::make_unique<GgufCheckpoint>(path);
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path_or_name) {
  // A path may have a plus sign of its own.
  const std::size_t plus = path_or_name.rfind('+');
  struct stat status = {};
  if (plus == std::string::npos || stat(path_or_name.c_str(), &status) == 0) {
    return open_plain(find_model(path_or_name));
  }
  const std::string adapter = path_or_name.substr(plus + 1);
  if (adapter.empty()) fail_usage("'{}': no adapter behind the plus sign", path_or_name);
  std::unique_ptr<Checkpoint> base = open(path_or_name.substr(0, plus));
  return std::make_unique<LoraCheckpoint>(std::move(base), find_model(adapter));
}

std::int64_t first_different_layer(const Checkpoint& a, const Checkpoint& b) {
  const std::vector<LayerGeometry>& layers = a.config().layers;
  if (layers != b.config().layers || a.config().hidden != b.config().hidden ||
      a.config().query_heads != b.config().query_heads || a.config().vocab != b.config().vocab) {
    fail_input("{} and {} differ in their geometry", a.path(), b.path());
  }
  const auto same = [&](const std::string& prefix) {
    return a.fingerprint_of(prefix) == b.fingerprint_of(prefix);
  };
  const auto computes = [](const ModelConfig& c) {
    return std::tuple(c.rms_epsilon, c.post_norms, c.activation, c.embedding_scale, c.query_scalar);
  };
  if (!same("model.embed_tokens.") || computes(a.config()) != computes(b.config())) return 0;
  std::int64_t layer = 0;
  while (layer < std::ssize(layers) && same(fmt::format("model.layers.{}.", layer))) ++layer;
  return layer;
}

}  // namespace kv
