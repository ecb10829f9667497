#include "epilogue.hh"

#include "cpu_features.hh"
#include "epilogue_targets.hh"
#include "rebuild.hh"
#include "target_table.hh"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace kv {
namespace {

using Table = TargetTable<EpilogueTarget, EpilogueTarget (*)(const Reconstruction&)>;

// Fastest first.
constexpr Table::Entry kTable[] = {
#if defined(__x86_64__)
    {EpilogueTarget::kAvx512, "avx512", reconstruct_avx512, cpu_has_avx512},
    {EpilogueTarget::kAvx2, "avx2", reconstruct_avx2, cpu_has_avx2},
#endif
    {EpilogueTarget::kScalar, "scalar", reconstruct_scalar, [] { return true; }},
};

Table& table() {
  static Table table("reconstruct", kTable);
  return table;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

void check(const Reconstruction& job) {
  require(job.outputs >= 0 && job.outputs % 4 == 0, "reconstruct: outputs are not a multiple of 4");
  require(job.tokens >= 0 && job.tokens % 16 == 0, "reconstruct: tokens are not a multiple of 16");
  require(job.r_stride >= job.tokens && (!job.p || job.p_stride >= job.tokens) &&
              (!job.n || job.n_stride >= job.tokens) && (!job.x || job.x_stride >= job.outputs),
          "reconstruct: rows overlap");
  const bool shifts =
      std::all_of(job.s, job.s + job.tokens, [](int s) { return s >= -24 && s <= 16; }) &&
      std::all_of(job.f, job.f + job.outputs, [](int f) { return f >= 1 && f <= 24; }) &&
      (!job.g || std::all_of(job.g, job.g + job.outputs, [](int g) { return g >= 0 && g <= 15; }));
  require(shifts, "reconstruct: a shift is out of range");
  const auto finite = [](float value) { return std::isfinite(value); };
  require(std::all_of(job.mean, job.mean + job.outputs, finite) &&
              std::all_of(job.unit, job.unit + job.outputs, finite),
          "reconstruct: a mean or unit is not finite");
}

const char* epilogue_target_name(EpilogueTarget target) { return table().name(target); }

std::span<const EpilogueTarget> epilogue_targets() { return table().here(); }

void set_epilogue_target(EpilogueTarget target) { table().select(target); }

EpilogueTarget reconstruct(const Reconstruction& job) {
  check(job);
  return table().selected().run(job);
}

void reconstruct(std::span<const DotProduct> products, const Reconstruction& job) {
  Reconstruction checked = job;
  checked.r_stride = job.tokens;
  check(checked);
  require(!products.empty() && products.front().outputs == job.outputs,
          "reconstruct: products of other outputs");
  const bool predicts = products.size() > 1;
  require(!(predicts && job.p), "reconstruct: two predictions");
  const auto run = table().selected().run;
  const std::int64_t value_bytes = job.x_type == EpilogueType::kF32 ? 4 : 2;
  int8_dot_blocks(products, job.tokens, [&](const DotBlock& block) {
    Reconstruction part = job;
    const std::int64_t c = block.output, t = block.token;
    part.outputs = block.outputs;
    part.tokens = block.tokens;
    part.r = block.sums[0];
    part.r_stride = block.stride;
    if (job.g) part.g += c;
    if (predicts) {
      part.p = block.sums[1];
      part.p_stride = block.stride;
    } else if (job.p) {
      part.p += c * job.p_stride + t;
    }
    part.m += t;
    part.s += t;
    part.f += c;
    part.mean += c;
    part.unit += c;
    if (job.n) part.n += c * job.n_stride + 4 * t;
    if (job.x) part.x = static_cast<char*>(job.x) + (t * job.x_stride + c) * value_bytes;
    run(part);
  });
}

}  // namespace kv
