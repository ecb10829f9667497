#pragma once
// What of a model's cache another fine-tune of the same base can use (DroidSpeak, Liu and others,
// NSDI 2026): all but one group of layers, which it recomputes. Numbers and JSON; no model.

#include "kv/container/meta.hh"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// Layers [first, end), recomputed from E at the first one; from the token ids where that is 0.
// Empty: all is reused.
struct LayerGroup {
  std::int64_t first = 0, end = 0;
  std::int64_t count() const { return end - first; }
  bool operator==(const LayerGroup&) const = default;
};

// A mean over prompts, and the interval in which it lies with 95 % confidence.
struct Estimate {
  double mean = 0, low = 0, high = 0;
};

// What a group costs and gives. Divergence is of B's next-token distributions behind the shared
// cache from those behind its own prefill, over its own answers, in nats a token.
struct SharePoint {
  LayerGroup group;
  double cost = 0;      // of recomputing: token-layers beside a whole prefill's
  Estimate chosen_by;   // divergence over the prompts that groups were chosen by
  Estimate divergence;  // over those kept apart, as all below
  double divergence_p99 = 0, top1 = 0;
  double nll = 0, nll_own = 0;  // of the prompts' completions, nats a token; of B's own prefill
  double f1 = 0, f1_own = 0;    // of B's answers against the completions
};

struct SharePlan {
  ModelIdentity from, to;
  std::int64_t layers = 0;
  // Layers before it are the same in both models, and reusing them costs nothing.
  std::int64_t first_different = 0;
  std::vector<double> sensitivity;   // by layer: divergence when this one alone is reused
  std::vector<SharePoint> frontier;  // ascending count, descending divergence; full reuse first
  std::int64_t chosen = 0;           // which of them
  std::string why;                   // it was chosen
  std::int64_t prompts = 0, prompts_apart = 0;  // chosen by, and kept apart
  double prefills_a_prompt = 0;                 // what profiling computed

  const SharePoint& point() const { return frontier[static_cast<std::size_t>(chosen)]; }
};

std::string plan_json(const SharePlan& plan);
// Throws kInput, naming `place`, on what is no plan or does not fit itself.
SharePlan parse_plan(std::string_view json, const std::string& place);

// "kld:0.02": the fewest layers within that divergence, by the prompts kept apart. "layers:8": the
// best with so many recomputed at most.
struct Budget {
  bool by_layers = false;
  double most = 0;
};
// Throws kUsage.
Budget parse_budget(const std::string& text);
// Which point of the frontier that is. Throws kNo when none is within.
std::int64_t choose_point(const SharePlan& plan, const std::string& budget);

// The fewest layers that leave a tenth of full reuse's divergence or less, by the prompts that
// groups were chosen by.
std::int64_t default_point(const SharePlan& plan);

}  // namespace kv
