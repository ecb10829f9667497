#include "weight_table.hh"

#include "kv/base/hash.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kWholeBytes = 1u << 20;  // tensors up to this size are hashed whole
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPages = 64;

std::string geometry_text(const ModelConfig& config) {
  std::string text =
      fmt::format("{} {} {} {} {} {:.17g}", config.architecture, config.vocab, config.hidden,
                  config.intermediate, config.query_heads, config.rms_epsilon);
  // What older families have not is told only where it is not as theirs: fingerprints stay.
  if (config.post_norms || config.activation != Activation::kSilu || config.embedding_scale != 1 ||
      config.query_scalar != 0) {
    text += fmt::format(" {} {} {:.17g} {:.17g}", config.post_norms,
                        static_cast<int>(config.activation), config.embedding_scale,
                        config.query_scalar);
  }
  for (const LayerGeometry& layer : config.layers) {
    const Rope& rope = layer.rope;
    text +=
        fmt::format(";{} {} {} {} {:.17g} {} {:.17g} {} {:.17g} {:.17g} {:.17g} {:.17g} {:.17g} {}",
                    layer.kv_heads, layer.k_dim, layer.v_dim, layer.window, rope.theta,
                    static_cast<int>(rope.scaling), rope.factor, rope.original_context,
                    rope.low_freq_factor, rope.high_freq_factor, rope.beta_fast, rope.beta_slow,
                    rope.attention_factor, rope.yarn_truncate);
  }
  return text;
}

void add_contents(Fingerprint& fingerprint, ByteView bytes) {
  if (bytes.size() <= kWholeBytes) {
    fingerprint.add(bytes);
    return;
  }
  // Evenly spaced, the first at the beginning and the last at the end.
  const std::size_t span = bytes.size() - kPageBytes;
  for (std::size_t i = 0; i < kPages; ++i) {
    fingerprint.add(bytes.subspan(span / (kPages - 1) * i, kPageBytes));
  }
  fingerprint.add(bytes.subspan(span, kPageBytes));
}

void add_weight(Fingerprint& fingerprint, const WeightView& view) {
  fingerprint.add_text(
      fmt::format("{} {} {}", view.name, static_cast<int>(view.type), fmt::join(view.shape, "x")));
  add_contents(fingerprint, view.bytes);
}

}  // namespace

std::int64_t WeightView::count() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

const WeightView& WeightTable::weight(std::string_view name) const {
  const auto found = weights_.find(name);
  if (found == weights_.end()) fail_input("{}: weight '{}' is missing", path_, name);
  return found->second;
}

std::vector<std::string> WeightTable::weight_names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : weights_) names.push_back(name);
  return names;
}

std::string WeightTable::fingerprint() const {
  Fingerprint fingerprint;
  fingerprint.add_text(geometry_text(config_));
  for (const auto& [name, view] : weights_) add_weight(fingerprint, view);
  return fingerprint.hex();
}

std::string WeightTable::fingerprint_of(std::string_view prefix) const {
  Fingerprint fingerprint;
  for (const auto& [name, view] : weights_) {
    if (name.starts_with(prefix)) add_weight(fingerprint, view);
  }
  return fingerprint.hex();
}

void WeightTable::check_weights() const {
  const auto expect = [&](const std::string& name, std::vector<std::int64_t> shape) {
    const WeightView& view = weight(name);
    if (view.shape != shape) {
      fail_input("{}: weight '{}' is {}, but the configuration says {}", path_, name,
                 fmt::join(view.shape, "x"), fmt::join(shape, "x"));
    }
  };
  const ModelConfig& c = config_;
  expect("model.embed_tokens.weight", {c.vocab, c.hidden});
  expect("model.norm.weight", {c.hidden});
  if (!c.tied_head) expect("lm_head.weight", {c.vocab, c.hidden});
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    const LayerGeometry& layer = c.layers[i];
    const std::string prefix = fmt::format("model.layers.{}.", i);
    const std::int64_t q = c.query_heads * layer.k_dim, k = layer.kv_heads * layer.k_dim;
    const std::int64_t v = layer.kv_heads * layer.v_dim, o = c.query_heads * layer.v_dim;
    expect(prefix + "input_layernorm.weight", {c.hidden});
    expect(prefix + "post_attention_layernorm.weight", {c.hidden});
    if (c.post_norms) {
      expect(prefix + "pre_feedforward_layernorm.weight", {c.hidden});
      expect(prefix + "post_feedforward_layernorm.weight", {c.hidden});
    }
    expect(prefix + "self_attn.q_proj.weight", {q, c.hidden});
    expect(prefix + "self_attn.k_proj.weight", {k, c.hidden});
    expect(prefix + "self_attn.v_proj.weight", {v, c.hidden});
    expect(prefix + "self_attn.o_proj.weight", {c.hidden, o});
    expect(prefix + "mlp.gate_proj.weight", {c.intermediate, c.hidden});
    expect(prefix + "mlp.up_proj.weight", {c.intermediate, c.hidden});
    expect(prefix + "mlp.down_proj.weight", {c.hidden, c.intermediate});
    if (c.attention_bias) {
      expect(prefix + "self_attn.q_proj.bias", {q});
      expect(prefix + "self_attn.k_proj.bias", {k});
      expect(prefix + "self_attn.v_proj.bias", {v});
    }
    if (c.output_bias) expect(prefix + "self_attn.o_proj.bias", {c.hidden});
    if (c.qk_norm) {
      expect(prefix + "self_attn.q_norm.weight", {layer.k_dim});
      expect(prefix + "self_attn.k_norm.weight", {layer.k_dim});
    }
  }
}

}  // namespace kv
