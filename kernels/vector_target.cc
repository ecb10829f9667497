#include "vector_target.hh"

#include "cpu_features.hh"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

namespace kv {
namespace {

std::atomic<VectorTarget>& selected() {
  static std::atomic<VectorTarget> target{vector_targets().front()};
  return target;
}

}  // namespace

const char* vector_target_name(VectorTarget target) {
  switch (target) {
    case VectorTarget::kBaseline:
      return "baseline";
    case VectorTarget::kAvx2:
      return "avx2";
    case VectorTarget::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::span<const VectorTarget> vector_targets() {
  static const std::vector<VectorTarget> targets = [] {
    std::vector<VectorTarget> here;
    if (cpu_has_avx2_group() && cpu_has_avx512()) here.push_back(VectorTarget::kAvx512);
    if (cpu_has_avx2_group()) here.push_back(VectorTarget::kAvx2);
    here.push_back(VectorTarget::kBaseline);
    return here;
  }();
  return targets;
}

void set_vector_target(VectorTarget target) {
  const auto targets = vector_targets();
  if (std::find(targets.begin(), targets.end(), target) == targets.end()) {
    throw std::invalid_argument("vectors: this machine cannot run this target");
  }
  selected() = target;
}

VectorTarget vector_target() { return selected().load(std::memory_order_relaxed); }

}  // namespace kv
