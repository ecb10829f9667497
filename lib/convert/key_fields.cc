#include "kv/convert/key_fields.hh"

#include <algorithm>
#include <charconv>

namespace kv {
namespace {

std::string model_text(const ModelIdentity& model) {
  return fmt::format("{} ({})", model.name, model.fingerprint.substr(0, 12));
}

std::string layout_text(const Meta& meta) {
  const LayerGeometry& first = meta.layers[0].geometry;
  return fmt::format("{} layers, {} KV heads of {} and {}", meta.layers.size(), first.kv_heads,
                     first.k_dim, first.v_dim);
}

bool same_geometry(const Meta& a, const Meta& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const LayerMeta& x, const LayerMeta& y) {
                      return x.index == y.index && x.geometry.kv_heads == y.geometry.kv_heads &&
                             x.geometry.k_dim == y.geometry.k_dim &&
                             x.geometry.v_dim == y.geometry.v_dim;
                    });
}

bool starts_with_number(std::string_view text, std::string_view prefix, std::uint32_t& value) {
  if (!text.starts_with(prefix)) return false;
  const auto [end, error] = std::from_chars(text.data() + prefix.size(), text.data() + text.size(),
                                            value, prefix == "0x" ? 16 : 10);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_hex(std::string_view text, std::size_t size) {
  return text.size() == size &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(at);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string unquoted(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const std::string_view digits = text.substr(i, 3);
    if (digits.size() == 3 && digits[0] == '%' &&
        std::from_chars(&digits[1], &digits[1] + 2, value, 16).ptr == &digits[1] + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// model@devices@device@hash@dtype[@tag%value...], or of the server model@0xRANKS@group@hash[@salt].
std::vector<NamePart> lmcache_parts(const std::vector<std::string>& parts) {
  std::uint32_t ranks = 0;
  if (starts_with_number(parts[1], "0x", ranks)) {
    std::vector<NamePart> out = {{"engine", "lmcache-mp"}, {"model", parts[0]}};
    out.push_back({"device", fmt::format("{} of {}, on its machine {} of {}", ranks >> 16 & 255,
                                         ranks >> 24, ranks & 255, ranks >> 8 & 255)});
    out.push_back({"group", parts[2]});
    out.push_back({"hash", parts[3]});
    if (parts.size() > 4) out.push_back({"salt", parts[4]});
    return out;
  }
  std::vector<NamePart> out = {{"engine", "lmcache"}, {"model", parts[0]}};
  out.push_back({"device", parts[2] + " of " + parts[1]});
  out.push_back({"hash", parts[3]});
  if (parts.size() > 4) out.push_back({"dtype", parts[4]});
  for (std::size_t i = 5; i < parts.size(); ++i) {
    const std::size_t equal = parts[i].find('%');
    if (equal == std::string::npos) {
      out.push_back({"layer", parts[i]});
    } else {
      out.push_back({"tag " + parts[i].substr(0, equal), parts[i].substr(equal + 1)});
    }
  }
  return out;
}

}  // namespace

std::vector<KeyDifference> key_differences(const KeyedPrompt& a, const KeyedPrompt& b) {
  std::vector<KeyDifference> all;
  const auto add = [&](std::string_view field, bool differs, std::string of_a, std::string of_b) {
    if (differs) all.push_back({field, std::move(of_a), std::move(of_b)});
  };
  if (a.meta && b.meta) {
    const Meta &x = *a.meta, &y = *b.meta;
    add("model", x.model.fingerprint != y.model.fingerprint, model_text(x.model),
        model_text(y.model));
    add("tokenizer", x.model.tokenizer_fingerprint != y.model.tokenizer_fingerprint,
        x.model.tokenizer_fingerprint.substr(0, 12), y.model.tokenizer_fingerprint.substr(0, 12));
    if (!x.layers.empty() && !y.layers.empty()) {
      add("layout", !same_geometry(x, y), layout_text(x), layout_text(y));
    }
    add("dtype", x.dtype != y.dtype, std::string(dtype_name(x.dtype)),
        std::string(dtype_name(y.dtype)));
    add("position", x.first_position != y.first_position, std::to_string(x.first_position),
        std::to_string(y.first_position));
  }
  const auto own = [](const std::string& text) { return text.empty() ? "the engine's own" : text; };
  add("block", a.block != b.block, own(a.block > 0 ? std::to_string(a.block) : ""),
      own(b.block > 0 ? std::to_string(b.block) : ""));
  add("seed", a.seed != b.seed, own(a.seed), own(b.seed));
  return all;
}

KeyHits key_hits(const KeyFamily& family, const KeyedPrompt& a, const KeyedPrompt& b,
                 const std::vector<KeyDifference>& differences) {
  KeyHits hits;
  hits.block = a.block > 0 ? a.block : family.block;
  const auto kept = engine_keys(family, a.ids, hits.block, a.seed);
  const auto sought = engine_keys(family, b.ids, b.block > 0 ? b.block : family.block, b.seed);
  hits.of = kept.size();
  // Block by block, as engines look: other blocks have no key in common but by their whole text.
  const auto end = std::mismatch(kept.begin(), kept.end(), sought.begin(), sought.end()).first;
  hits.keys = static_cast<std::size_t>(end - kept.begin());
  for (const KeyDifference& difference : differences) {
    const std::string_view field = difference.field;
    if (field == "block" || field == "seed" || field == "tokenizer") continue;  // the keys say it
    const bool named =
        (field == "model" && family.names_model) || (field == "dtype" && family.names_dtype);
    (named ? hits.kept_apart : hits.unnoticed).push_back(field);
  }
  if (!hits.kept_apart.empty()) hits.keys = 0;
  hits.tokens = hits.keys == 0 ? 0 : kept[hits.keys - 1].tokens;
  return hits;
}

std::vector<NamePart> store_name_parts(std::string_view path) {
  const std::vector<std::string> folders = split(path, '/');
  std::string name = folders.back();
  for (const char* ending : {".metadata", ".kvcache.safetensors", ".data", ".bin", ".pt"}) {
    if (name.ends_with(ending)) name.resize(name.size() - std::string_view(ending).size());
  }
  const std::vector<std::string> at = split(unquoted(name), '@');
  if (at.size() >= 4) return lmcache_parts(at);
  if (is_hex(name, 32)) return {{"engine", "vllm"}, {"hash", name}};
  if (is_hex(name, 64) && folders.size() >= 4) {
    // MODEL_DIGITS_rRANK/HHH/HH_gGROUP/HASH
    const std::string &run = folders[folders.size() - 4], &group = folders[folders.size() - 2];
    const std::size_t rank = run.rfind("_r"), digits = rank < 13 ? 0 : rank - 13;
    if (rank != std::string::npos && rank > 13 && run[digits] == '_') {
      return {{"engine", "vllm-tier"},
              {"model", run.substr(0, digits)},
              {"settings (config.json)", run.substr(digits + 1, 12)},
              {"device", run.substr(rank + 2)},
              {"group", group.substr(std::min(group.size(), group.find("_g") + 2))},
              {"hash", name}};
    }
  }
  const std::vector<std::string> parts = split(name, '_');
  if (parts.size() >= 4 && is_hex(parts[0], 64)) {
    const std::size_t model = parts[0].size() + 1;
    const std::size_t behind = parts[parts.size() - 1].size() + parts[parts.size() - 2].size() + 2;
    return {{"engine", "hicache"},
            {"model", name.substr(model, name.size() - model - behind)},
            {"device", parts[parts.size() - 2] + " of " + parts.back()},
            {"hash", parts[0]}};
  }
  fail_input("{}: no name of a file in a store of vLLM, LMCache or HiCache", path);
}

}  // namespace kv
