#include "epilogue.hh"

#include "cpu_features.hh"
#include "epilogue_targets.hh"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace kv {
namespace {

struct Entry {
  EpilogueTarget target;
  const char* name;
  EpilogueTarget (*run)(const Reconstruction&);
  bool (*here)();
};

// Fastest first.
constexpr Entry kTable[] = {
#if defined(__x86_64__)
    {EpilogueTarget::kAvx512, "avx512", reconstruct_avx512, cpu_has_avx512},
    {EpilogueTarget::kAvx2, "avx2", reconstruct_avx2, cpu_has_avx2},
#endif
    {EpilogueTarget::kScalar, "scalar", reconstruct_scalar, [] { return true; }},
};

const Entry& entry_of(EpilogueTarget target) {
  for (const Entry& entry : kTable) {
    if (entry.target == target) return entry;
  }
  throw std::invalid_argument("reconstruct: this build has no such target");
}

std::atomic<const Entry*>& selected() {
  static std::atomic<const Entry*> entry{&entry_of(epilogue_targets().front())};
  return entry;
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

const char* epilogue_target_name(EpilogueTarget target) { return entry_of(target).name; }

std::span<const EpilogueTarget> epilogue_targets() {
  static const std::vector<EpilogueTarget> targets = [] {
    std::vector<EpilogueTarget> here;
    for (const Entry& entry : kTable) {
      if (entry.here()) here.push_back(entry.target);
    }
    return here;
  }();
  return targets;
}

void set_epilogue_target(EpilogueTarget target) {
  const auto targets = epilogue_targets();
  require(std::find(targets.begin(), targets.end(), target) != targets.end(),
          "reconstruct: this machine cannot run this target");
  selected() = &entry_of(target);
}

EpilogueTarget reconstruct(const Reconstruction& job) {
  check(job);
  return selected().load(std::memory_order_relaxed)->run(job);
}

}  // namespace kv
