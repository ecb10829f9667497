// META as JSON. man/kv.5 describes each field; the two functions here list them in the same order.

#include "kv/container/json_object.hh"
#include "kv/container/meta.hh"
#include "kv/container/meta_check.hh"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace kv {
namespace {

constexpr std::array<std::string_view, 4> kScalings = {"none", "linear", "llama3", "yarn"};
constexpr std::array<std::string_view, 13> kKeys = {
    "chunks",         "codec",         "document",   "dtype",  "first_position",
    "hidden",         "hidden_layers", "history",    "layers", "model",
    "quality_layers", "rope_applied",  "token_count"};

json rope_to_json(const Rope& rope) {
  return {{"attention_factor", rope.attention_factor},
          {"beta_fast", rope.beta_fast},
          {"beta_slow", rope.beta_slow},
          {"factor", rope.factor},
          {"high_freq_factor", rope.high_freq_factor},
          {"low_freq_factor", rope.low_freq_factor},
          {"original_context", rope.original_context},
          {"scaling", kScalings.at(static_cast<std::size_t>(rope.scaling))},
          {"theta", rope.theta},
          {"truncate", rope.yarn_truncate}};
}

// Layers that follow one another and are alike share an entry.
json layers_to_json(const std::vector<LayerMeta>& layers) {
  json runs = json::array();
  for (std::size_t i = 0; i < layers.size();) {
    std::size_t end = i + 1;
    while (end < layers.size() && layers[end].index == layers[i].index + (end - i) &&
           layers[end].geometry == layers[i].geometry &&
           layers[end].latent_dim == layers[i].latent_dim) {
      ++end;
    }
    const LayerGeometry& geometry = layers[i].geometry;
    runs.push_back({{"count", end - i},
                    {"first", layers[i].index},
                    {"k_dim", geometry.k_dim},
                    {"kv_heads", geometry.kv_heads},
                    {"latent_dim", layers[i].latent_dim},
                    {"rope", rope_to_json(geometry.rope)},
                    {"v_dim", geometry.v_dim},
                    {"window", geometry.window}});
    i = end;
  }
  return runs;
}

Rope rope_from(const JsonObject& object) {
  Rope rope;
  const std::string scaling = object.text("scaling");
  const auto found = std::find(kScalings.begin(), kScalings.end(), scaling);
  if (found == kScalings.end()) {
    object.refuse("scaling",
                  fmt::format("is {}, which this version does not know", printable(scaling)));
  }
  rope.scaling = static_cast<Rope::Scaling>(found - kScalings.begin());
  rope.attention_factor = object.number("attention_factor");
  rope.beta_fast = object.number("beta_fast");
  rope.beta_slow = object.number("beta_slow");
  rope.factor = object.number("factor");
  rope.high_freq_factor = object.number("high_freq_factor");
  rope.low_freq_factor = object.number("low_freq_factor");
  rope.original_context = object.integer("original_context", 0, format::kMaxInteger);
  rope.theta = object.number("theta");
  rope.yarn_truncate = object.boolean("truncate");
  return rope;
}

void add_layers(const JsonObject& object, std::vector<LayerMeta>& layers) {
  LayerMeta layer;
  layer.geometry.kv_heads = object.integer("kv_heads", 0, format::kMaxRowValues);
  layer.geometry.k_dim = object.integer("k_dim", 0, format::kMaxRowValues);
  layer.geometry.v_dim = object.integer("v_dim", 0, format::kMaxRowValues);
  layer.geometry.window = object.integer("window", 0, format::kMaxInteger);
  layer.geometry.rope = rope_from(object.object("rope"));
  layer.latent_dim = object.integer("latent_dim", 0, format::kMaxRowValues);
  const std::int64_t first = object.integer("first", 0, format::kMaxLayers - 1);
  const std::int64_t count = object.integer("count", 1, format::kMaxLayers - first);
  // Before memory is taken: many entries may each claim all layers.
  if (!layers.empty() && first <= layers.back().index) object.refuse("first", "is not ascending");
  for (std::int64_t i = first; i < first + count; ++i) {
    layer.index = static_cast<std::uint32_t>(i);
    layers.push_back(layer);
  }
}

ModelIdentity model_from(const JsonObject& object) {
  ModelIdentity model;
  model.adapter = object.text("adapter");
  model.architecture = object.text("architecture");
  model.base_fingerprint = object.text("base_fingerprint");
  model.fingerprint = object.text("fingerprint");
  model.name = object.text("name");
  model.tokenizer_fingerprint = object.text("tokenizer_fingerprint");
  return model;
}

// A field of Meta that holds the user's JSON; deep nesting is found before dump() recurses.
json parse_own(const std::string& text, const char* field) {
  json value = parse_json(text, field);
  if (!value.is_object()) throw std::logic_error(fmt::format("Meta::{} is no object", field));
  return value;
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::size_t kMost = 120;
  std::string quoted =
      json(text.substr(0, kMost)).dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kMost) quoted += "...";
  return quoted;
}

std::string meta_to_json(const Meta& meta) {
  json out = parse_own(meta.extra_json, "extra_json");
  out["chunks"] = json::array();
  for (const ChunkMeta& chunk : meta.chunks) {
    out["chunks"].push_back({{"bos", chunk.bos},
                             {"count", chunk.token_count},
                             {"first", chunk.token_begin},
                             {"id", chunk.id}});
  }
  out["codec"] = meta.codec;
  out["document"] = parse_own(meta.document_json, "document_json");
  out["dtype"] = dtype_name(meta.dtype);
  out["first_position"] = meta.first_position;
  out["hidden"] = meta.hidden;
  out["hidden_layers"] = meta.hidden_layers;
  out["history"] = json::array();
  for (const HistoryEntry& entry : meta.history) {
    out["history"].push_back(
        {{"arguments", entry.arguments}, {"tool", entry.tool}, {"version", entry.version}});
  }
  out["layers"] = layers_to_json(meta.layers);
  out["model"] = {{"adapter", meta.model.adapter},
                  {"architecture", meta.model.architecture},
                  {"base_fingerprint", meta.model.base_fingerprint},
                  {"fingerprint", meta.model.fingerprint},
                  {"name", meta.model.name},
                  {"tokenizer_fingerprint", meta.model.tokenizer_fingerprint}};
  out["quality_layers"] = meta.quality_layers;
  out["rope_applied"] = meta.rope_applied;
  out["token_count"] = meta.token_count;
  // Arguments may hold bytes that are not UTF-8: file names are bytes.
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

Meta meta_from_json(std::string_view text, const std::string& place) {
  if (text.size() > format::kMaxMetaBytes) {
    fail_input("{}: {} bytes, over the limit of {}", place, text.size(), format::kMaxMetaBytes);
  }
  const json root = parse_json(text, place);
  const JsonObject object(root, "", place);
  Meta meta;
  object.each("chunks", [&](const JsonObject& chunk) {
    meta.chunks.push_back({chunk.text("id"), chunk.integer("first", 0, format::kMaxTokens),
                           chunk.integer("count", 0, format::kMaxTokens), chunk.boolean("bos")});
  });
  meta.codec = object.text("codec");
  if (!object.at("document").is_object()) object.refuse("document", "is not an object");
  meta.document_json = object.at("document").dump();
  const std::string dtype = object.text("dtype");
  try {
    meta.dtype = parse_dtype(dtype);
  } catch (const Error&) {
    object.refuse("dtype",
                  fmt::format("is {}, which this version does not know", printable(dtype)));
  }
  meta.first_position = object.integer("first_position", 0, format::kMaxInteger);
  meta.hidden = object.integer("hidden", 0, format::kMaxRowValues);
  for (const json& layer : object.list("hidden_layers")) {
    meta.hidden_layers.push_back(static_cast<std::uint32_t>(
        object.integer("hidden_layers", layer, 0, format::kMaxLayers - 1)));
  }
  object.each("history", [&](const JsonObject& entry) {
    HistoryEntry step{entry.text("tool"), entry.text("version"), {}};
    for (const json& argument : entry.list("arguments")) {
      if (!argument.is_string()) entry.refuse("arguments", "holds what is not a string");
      step.arguments.push_back(argument.get<std::string>());
    }
    meta.history.push_back(std::move(step));
  });
  object.each("layers", [&](const JsonObject& run) { add_layers(run, meta.layers); });
  meta.model = model_from(object.object("model"));
  meta.quality_layers =
      static_cast<std::uint16_t>(object.integer("quality_layers", 1, format::kMaxQualityLayers));
  meta.rope_applied = object.boolean("rope_applied");
  meta.token_count = object.integer("token_count", 0, format::kMaxTokens);

  json extra = json::object();
  for (const auto& [key, value] : root.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) extra[key] = value;
  }
  meta.extra_json = extra.dump();
  if (const std::string problem = problem_of(meta); !problem.empty()) {
    fail_input("{}: {}; {}", place, problem, kForeign);
  }
  return meta;
}

}  // namespace kv
