#pragma once
// What is told of a fusion: for people, and as JSON.

#include "kv/blend/plan.hh"
#include "kv/blend/verify.hh"

#include <string>

namespace kv {

std::string plan_text(const FusionSize& size, const Plan& plan);
std::string plan_json(const FusionSize& size, const Plan& plan);

// Counts and times of a fusion, as a JSON object.
std::string fusion_json(const Layout& layout, const FuseReport& fused);

struct Limits {
  double max_kld = 0;   // mean; below 0: any
  double min_top1 = 0;  // share
};
bool within(const Limits& limits, const Comparison& compared);
std::string comparison_text(const Layout& layout, const FuseReport& fused,
                            const Comparison& compared);
std::string comparison_json(const Layout& layout, const FuseReport& fused,
                            const Comparison& compared);

}  // namespace kv
