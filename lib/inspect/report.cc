#include "kv/base/control_characters.hh"
#include "kv/codec/codec.hh"
#include "kv/inspect/inspect.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string human(std::uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string codec_name(std::uint16_t id) {
  if (id == format::kClp) return "clp";  // no codecs of single tiles
  if (id == format::kThirds) return "thirds";
  try {
    return std::string(codec_by_id(id, "").name());
  } catch (const Error&) {
    return fmt::format("codec {}", id);
  }
}

std::string geometry(const LayerMeta& layer) {
  if (layer.latent_dim > 0) return fmt::format("one latent of {}", layer.latent_dim);
  const LayerGeometry& shape = layer.geometry;
  return fmt::format("{} KV heads, K {} V {}, {}, RoPE theta {}", shape.kv_heads, shape.k_dim,
                     shape.v_dim,
                     shape.window > 0 ? fmt::format("window {}", shape.window) : "full attention",
                     shape.rope.theta);
}

std::string layers_text(const Meta& meta) {
  std::string text;
  for (std::size_t i = 0; i < meta.layers.size();) {
    std::size_t end = i + 1;
    while (end < meta.layers.size() && meta.layers[end].index == meta.layers[end - 1].index + 1 &&
           meta.layers[end].geometry == meta.layers[i].geometry &&
           meta.layers[end].latent_dim == meta.layers[i].latent_dim) {
      ++end;
    }
    const std::uint32_t first = meta.layers[i].index, last = meta.layers[end - 1].index;
    text +=
        fmt::format("  layers       {}: {}\n",
                    first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last),
                    geometry(meta.layers[i]));
    i = end;
  }
  return text;
}

// Where the weights of some rows lie, as powers of 2: the 1st, 50th and 99th percentile.
struct Spread {
  double low, middle, high;
};
Spread spread_of(Importance bytes) {
  std::ranges::sort(bytes);
  const auto at = [&](std::size_t percent) {
    return std::log2(importance_weight(bytes[(bytes.size() - 1) * percent / 100]));
  };
  return {at(1), at(50), at(99)};
}

using Rows = std::vector<std::pair<std::pair<std::uint32_t, format::Kind>, Importance>>;
Rows importance_by_row(const MemberReport& report) {
  Rows rows;
  if (report.importance.empty()) return rows;
  auto at = report.importance.begin();
  for (const auto& row : importance_rows(report.meta)) {
    rows.emplace_back(row, Importance(at, at + report.meta.token_count));
    at += report.meta.token_count;
  }
  return rows;
}

std::string importance_text(const MemberReport& report) {
  std::map<format::Kind, Importance> by_kind;
  for (const auto& [row, bytes] : importance_by_row(report)) {
    Importance& all = by_kind[row.second];
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  std::string text;
  for (const auto& [kind, bytes] : by_kind) {
    const Spread spread = spread_of(bytes);
    text += fmt::format("{}{} 2^{:.1f} to 2^{:.1f}, median 2^{:.1f}", text.empty() ? "" : "; ",
                        static_cast<char>(kind), spread.low, spread.high, spread.middle);
  }
  return text;
}

// What kvshare wrote; a foreign key of that name that says anything else is left alone.
std::string shared_text(const Meta& meta) {
  const json extra = json::parse(meta.extra_json, nullptr, /*allow_exceptions=*/false);
  if (!extra.is_object() || !extra.contains("shared")) return "";
  try {
    const json& from = extra["shared"].at("from");
    const auto layers = extra["shared"].at("recomputed").get<std::vector<std::int64_t>>();
    if (layers.size() != 2) return "";
    const std::string name =
        from.at("name").get<std::string>() + " " + from.at("fingerprint").get<std::string>();
    if (layers[0] == layers[1]) return "all of " + name;
    return fmt::format("of {}, but layers {}-{}", name, layers[0], layers[1] - 1);
  } catch (const json::exception&) {
    return "";
  }
}

std::string member_text(const MemberReport& report) {
  const Meta& meta = report.meta;
  std::string text;
  const auto row = [&](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<12} {}\n", label, without_controls(value));
  };
  row("model",
      fmt::format("{} ({}) {}", meta.model.name, meta.model.architecture, meta.model.fingerprint));
  row("adapter", meta.model.adapter);
  row("base", meta.model.base_fingerprint);
  row("shared", shared_text(meta));
  row("tokens", fmt::format("{} from position {}{}", meta.token_count, meta.first_position,
                            report.tokens.empty() ? ", ids not kept" : ""));
  text += layers_text(meta);
  if (!meta.hidden_layers.empty()) {
    row("E", fmt::format("layers {} of width {}", fmt::join(meta.hidden_layers, ","), meta.hidden));
  }
  row("dtype", fmt::format("{}, keys {} RoPE", dtype_name(meta.dtype),
                           meta.rope_applied ? "with" : "without"));
  for (const ChunkMeta& chunk : meta.chunks) {
    row("chunk", fmt::format("'{}' tokens {}:{}{}", chunk.id, chunk.token_begin,
                             chunk.token_begin + chunk.token_count, chunk.bos ? ", BOS" : ""));
  }
  row("importance", importance_text(report));
  if (meta.codec != "raw") row("codec", meta.codec);
  for (const std::uint64_t profile : report.profiles) {
    row("profile", fmt::format("{:016x}", profile));
  }
  // Refinements add to the bits of the tiles that they refine, and hold no values of their own.
  std::map<char, std::uint64_t> raw_by_kind;
  std::uint64_t raw = 0;
  for (const auto& [key, sum] : report.tiles) {
    raw_by_kind[key.kind] += sum.raw_bytes;
    raw += sum.raw_bytes;
  }
  for (const auto& [key, sum] : report.tiles) {
    const std::uint64_t values = key.quality > 0 ? raw_by_kind[key.kind] : sum.raw_bytes;
    row(fmt::format("{} tiles", key.kind).c_str(),
        fmt::format("{} in {}{}: {}, {:.2f} bits a value", sum.tiles, codec_name(key.codec),
                    key.quality > 0 ? fmt::format(", quality {}", key.quality) : "",
                    human(sum.stored_bytes),
                    values == 0 ? 0.0
                                : 8.0 * static_cast<double>(sum.stored_bytes) *
                                      static_cast<double>(dtype_size_bytes(meta.dtype)) /
                                      static_cast<double>(values)));
  }
  row("size",
      fmt::format("{}, {} a token, {:.2f}x smaller than raw", human(report.size_bytes),
                  human(report.size_bytes /
                        static_cast<std::uint64_t>(std::max<std::int64_t>(1, meta.token_count))),
                  report.size_bytes == 0
                      ? 0.0
                      : static_cast<double>(raw) / static_cast<double>(report.size_bytes)));
  for (const HistoryEntry& entry : meta.history) {
    row("history",
        fmt::format("{} {} {}", entry.tool, entry.version, fmt::join(entry.arguments, " ")));
  }
  return text;
}

struct Totals {
  std::uint64_t frames = 0, tiles = 0, size_bytes = 0;
};

Totals totals_of(const std::vector<MemberReport>& members) {
  Totals totals;
  for (const MemberReport& member : members) {
    totals.frames += member.frames;
    totals.size_bytes += member.size_bytes;
    for (const auto& [key, sum] : member.tiles) totals.tiles += sum.tiles;
  }
  return totals;
}

std::string counted(std::uint64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

ordered_json member_json(const MemberReport& report) {
  ordered_json out = {{"meta", ordered_json::parse(meta_to_json(report.meta))},
                      {"size_bytes", report.size_bytes},
                      {"token_ids_kept", !report.tokens.empty()}};
  if (report.frames != 0) {
    out["hash"] = fmt::format("{:016x}", report.hash);
    out["frames"] = report.frames;
  }
  out["tensors"] = ordered_json::array();
  for (const auto& [key, sum] : report.tiles) {
    out["tensors"].push_back({{"kind", std::string(1, key.kind)},
                              {"codec", codec_name(key.codec)},
                              {"quality", key.quality},
                              {"tiles", sum.tiles},
                              {"stored_bytes", sum.stored_bytes},
                              {"raw_bytes", sum.raw_bytes}});
  }
  out["profiles"] = ordered_json::array();
  for (const std::uint64_t profile : report.profiles) {
    out["profiles"].push_back(fmt::format("{:016x}", profile));
  }
  out["importance"] = ordered_json::array();
  for (const auto& [row, bytes] : importance_by_row(report)) {
    const Spread spread = spread_of(bytes);
    out["importance"].push_back({{"layer", row.first},
                                 {"kind", std::string(1, static_cast<char>(row.second))},
                                 {"log2_p1", spread.low},
                                 {"log2_p50", spread.middle},
                                 {"log2_p99", spread.high}});
  }
  return out;
}

}  // namespace

std::string token_line(std::int32_t id, const std::string& text) {
  return fmt::format(
      "{}\t{}\n", id,
      ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

std::string check_text(const std::string& name, const std::vector<MemberReport>& members) {
  const Totals totals = totals_of(members);
  return fmt::format("{}: ok, {}, {}, {}, {}, hash {:016x}\n", name,
                     counted(members.size(), "member"), counted(totals.frames, "frame"),
                     counted(totals.tiles, "tile"), counted(totals.size_bytes, "byte"),
                     members.empty() ? 0 : members.back().hash);
}

std::string report_text(const std::string& name, const std::vector<MemberReport>& members) {
  std::string text;
  for (std::size_t i = 0; i < members.size(); ++i) {
    text +=
        members.size() == 1 ? fmt::format("{}\n", name) : fmt::format("{}: member {}\n", name, i);
    text += member_text(members[i]);
  }
  return text;
}

std::string report_json(const std::string& name, const std::vector<MemberReport>& members) {
  ordered_json out = {{"file", name}, {"members", ordered_json::array()}};
  for (const MemberReport& report : members) out["members"].push_back(member_json(report));
  // A member that was read through and verified has frames: END at least.
  if (std::ranges::all_of(members, [](const MemberReport& m) { return m.frames != 0; })) {
    const Totals totals = totals_of(members);
    out["verified"] = {{"members", members.size()},
                       {"frames", totals.frames},
                       {"tiles", totals.tiles},
                       {"bytes", totals.size_bytes}};
  }
  return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kv
