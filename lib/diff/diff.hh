#pragma once
// How far two KV caches of the same tokens are apart, tensor by tensor: what compression, blending
// or sharing did to a cache, and where.
//
// The relative L2 error of b against a is |a - b| / |a|, 0 where they are the same; the cosine is
// that of the angle between them; both over all values of a row of the report. Values of the same
// bits do not differ, whatever they are; else NaN makes these NaN.
// Keys are compared as the files hold them, without RoPE: the rotation is an isometry, so that
// their errors are those of the rotated keys.

#include "kv/base/bytes.hh"
#include "kv/container/meta.hh"

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace kv {

// What a row of the report is about: a layer's keys (or values, E, latents), those of one head or
// one channel of it, or one token's of all layers.
enum class DiffBy { kLayer, kHead, kChannel, kToken };
DiffBy parse_diff_by(const std::string& name);  // throws kUsage
std::string_view diff_by_name(DiffBy by);

struct DiffOptions {
  DiffBy by = DiffBy::kLayer;
  double bound = 0.1;  // relative L2 of a token in a layer, of which the share over it is told
  bool across_models = false, across_texts = false;
  int heat_columns = 0;  // over 0: also by layer and so many stretches of tokens
  int threads = 1;
  // Over these is an offence: of a layer's K or V, and of a token's in a layer.
  std::optional<double> max_rel_l2, max_token;
};

struct DiffSums {
  double a2 = 0, b2 = 0, ab = 0, d2 = 0;  // of squares, products, and squared differences
  float most = 0;                         // of absolute differences

  void add(std::span<const float> a, std::span<const float> b);
  void add(const DiffSums& other);
  double rel_l2() const {
    if (d2 == 0) return 0;
    return a2 == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(d2 / a2);
  }
  double cosine() const { return a2 == 0 && b2 == 0 ? 1 : ab / std::sqrt(a2 * b2); }
};

struct DiffRow {
  std::optional<std::uint32_t> layer;  // none by token
  format::Kind kind = format::Kind::kK;
  std::int64_t index = 0;  // of the head, channel or token; 0 by layer
  DiffSums sums;
  // By layer only: tokens, and those over DiffOptions::bound.
  std::int64_t tokens = 0, over = 0;
};

struct DiffMember {
  Meta meta;  // of a
  std::vector<DiffRow> rows;
  std::vector<DiffRow> totals;  // a kind each
  // Where asked for: of each layer's tensors, in their order, by stretch of tokens.
  std::vector<DiffRow> heat;
};

struct DiffResult {
  std::vector<DiffMember> members;
  std::string offence;  // the first in the files' order, or ""
};

// Reads both streams once, in step, with a tile of each in memory; either may be a pipe. Throws
// kInput when members do not hold the same layers, heads and tokens, and, unless across_models or
// across_texts, are not of the same model and text.
DiffResult diff(const std::string& a, const std::string& b, const DiffOptions& options);

// CacheGen's view of a cache (SIGCOMM'24, sections 4.1 and 4.2), a tensor a row.
struct StatisticsRow {
  std::uint32_t layer = 0;
  format::Kind kind = format::Kind::kK;
  double variance = 0;        // of values about their channel's mean, mean of the channels
  double delta_variance = 0;  // of values less their anchor, the first token of each ten
  // Entropy of values, each token's scaled by its largest to 31 levels: with one distribution, and
  // with one a channel.
  double bits = 0, channel_bits = 0;
};
using Statistics = std::vector<std::vector<StatisticsRow>>;  // by member
Statistics statistics(const std::string& path, int threads);

struct DiffReport {
  std::string a, b;  // names; b is "" of statistics
  DiffBy by = DiffBy::kLayer;
  double bound = 0;
  bool bars = false;  // a bar a row, on a terminal
};
std::string diff_text(const DiffReport& report, const DiffResult& result);
std::string diff_json(const DiffReport& report, const DiffResult& result);
std::string diff_csv(const DiffReport& report, const DiffResult& result);
std::string diff_heat_map(const DiffReport& report, const DiffResult& result);
std::string statistics_text(const std::string& name, const Statistics& members);
std::string statistics_json(const std::string& name, const Statistics& members);
std::string statistics_csv(const Statistics& members);

}  // namespace kv
