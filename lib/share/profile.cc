#include "kv/share/profile.hh"

#include "kv/base/hash.hh"
#include "kv/share/candidates.hh"
#include "kv/tune/training_set.hh"
#include "pair_run.hh"
#include "profile_state.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using Groups = std::vector<LayerGroup>;

std::vector<PairPrompt> pair_prompts(const std::vector<Prompt>& prompts, const Session& to,
                                     const ProfileOptions& options) {
  std::vector<PairPrompt> pairs;
  for (const Prompt& prompt : prompts) {
    if (prompt.parts.empty()) {
      fail_input("{}: messages; profiling needs a text and a question", prompt.place);
    }
    PairPrompt pair;
    for (const auto& ids : part_ids(prompt, *to.tokenizer, options.chat)) {
      std::vector<std::int32_t>& into = pair.text.empty() ? pair.text : pair.question;
      into.insert(into.end(), ids.begin(), ids.end());
    }
    if (pair.question.empty() && !pair.text.empty()) {
      pair.question = {pair.text.back()};
      pair.text.pop_back();
    }
    if (pair.text.empty()) fail_input("{}: a text of one token", prompt.place);
    pair.completion = to.tokenizer->encode(prompt.completion);
    pair.completion_text = prompt.completion;
    const std::int64_t tokens = std::ssize(pair.text) + std::ssize(pair.question) +
                                std::max(std::ssize(pair.completion), options.answer_tokens);
    if (tokens > to.model->config().context) {
      fail_input("{}: {} tokens, over the model's context of {}", prompt.place, tokens,
                 to.model->config().context);
    }
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

class Profiling {
 public:
  Profiling(const Session& from, const Session& to, const std::vector<Prompt>& prompts,
            const ProfileOptions& options)
      : from_(from),
        to_(to),
        options_(options),
        pairs_(pair_prompts(prompts, to, options)),
        layers_(std::ssize(to.model->config().layers)),
        first_(first_different_layer(*from.checkpoint, *to.checkpoint)),
        step_(options.step > 0 ? options.step : std::max<std::int64_t>(1, layers_ / 6)),
        state_(options.state, description()) {
    std::vector<std::string> groups;
    for (const Prompt& prompt : prompts) groups.push_back(prompt.group);
    const std::vector<bool> apart = kv::kept_apart(groups);
    for (std::size_t i = 0; i < pairs_.size(); ++i) (apart[i] ? apart_ : choosing_).push_back(i);
  }

  SharePlan run() {
    SharePlan& plan = plan_;
    plan.from = from_.identity;
    plan.to = to_.identity;
    plan.layers = layers_;
    plan.first_different = first_;
    plan.prompts = std::ssize(choosing_);
    plan.prompts_apart = std::ssize(apart_);
    const Groups coarse = coarse_groups(layers_, first_, step_);
    work_ = static_cast<double>(3 * choosing_.size() + 2 * apart_.size());
    try_groups("coarse", coarse, true);
    const Groups refined = refined_groups(tried_, frontier_of(tried_), layers_, first_, step_);
    if (!refined.empty()) try_groups("refined", refined, false);
    plan.frontier = judged(frontier_of(tried_));
    plan.prefills_a_prompt = prefills_ / static_cast<double>(pairs_.size());
    choose();
    return std::move(plan_);
  }

 private:
  std::string description() const {
    Fingerprint content;
    for (const PairPrompt& pair : pairs_) {
      for (const auto* ids : {&pair.text, &pair.question, &pair.completion}) {
        content.add_text(std::to_string(ids->size()));
        content.add(std::as_bytes(std::span(*ids)));
      }
    }
    return fmt::format("{} {} {} answer {} step {} {}", from_.identity.fingerprint,
                       to_.identity.fingerprint, content.hex(), options_.answer_tokens, step_,
                       dtype_name(to_.model->compute()));
  }

  void tell(const std::string& what, double work) {
    done_ += work;
    if (options_.on_progress) options_.on_progress(what, std::min(1.0, done_ / work_));
  }

  // All groups on the prompts that choose.
  void try_groups(const std::string& pass, const Groups& groups, bool sensitivities) {
    std::vector<TriedGroup> tried;
    for (const LayerGroup& group : groups) tried.push_back({group, {}});
    std::vector<double> sensitivity(static_cast<std::size_t>(layers_));
    for (const std::size_t i : choosing_) {
      const std::string key = fmt::format("{} {}", pass, i);
      const PassRecord* record = state_.find(key);
      if (!record) record = &state_.keep(key, measured(i, groups, sensitivities));
      if (record->groups.size() != groups.size()) {
        fail_input("{}: damaged; remove it", options_.state);
      }
      for (std::size_t g = 0; g < groups.size(); ++g) {
        tried[g].divergence.push_back(mean_of(record->groups[g].divergence));
      }
      for (std::size_t l = 0; l < record->sensitivity.size() && l < sensitivity.size(); ++l) {
        sensitivity[l] += record->sensitivity[l] / static_cast<double>(choosing_.size());
      }
      prefills_ += record->prefills;
      tell(pass == "coarse" ? "groups on a grid" : "groups beside the best", sensitivities ? 2 : 1);
    }
    if (sensitivities) plan_.sensitivity = sensitivity;
    tried_.insert(tried_.end(), tried.begin(), tried.end());
  }

  static double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return values.empty() ? 0 : sum / static_cast<double>(values.size());
  }

  double prefills_of(const PairRun& run, std::size_t i) const {
    return run.token_layers() / static_cast<double>(std::ssize(pairs_[i].text) * layers_);
  }

  PassRecord measured(std::size_t i, const Groups& groups, bool sensitivities) {
    PairRun run(from_, to_, pairs_[i], options_.answer_tokens);
    PassRecord record;
    for (TokenDivergences& found : run.of_groups(groups)) {
      record.groups.push_back({std::move(found.divergence), 0, 0, 0});
    }
    if (sensitivities) record.sensitivity = run.sensitivities(first_);
    record.prefills = prefills_of(run, i);
    return record;
  }

  PassRecord judged(std::size_t i, const Groups& groups) {
    PairRun run(from_, to_, pairs_[i], options_.answer_tokens);
    PassRecord record;
    for (TokenDivergences& found : run.of_groups(groups)) {
      const double same = static_cast<double>(found.same) /
                          static_cast<double>(std::max<std::int64_t>(run.answer_tokens(), 1));
      record.groups.push_back({std::move(found.divergence), same, 0, 0});
    }
    const Judgement own = run.judge(std::nullopt);
    record.nll_own = own.nll;
    record.f1_own = own.f1;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const Judgement found = run.judge(groups[g]);
      record.groups[g].nll = found.nll;
      record.groups[g].f1 = found.f1;
    }
    record.prefills = prefills_of(run, i);
    return record;
  }

  // What groups are worth, by the prompts kept apart.
  std::vector<SharePoint> judged(const Groups& groups) {
    std::vector<const PassRecord*> records;
    // By what is judged: another frontier is another measurement.
    std::string pass = "judged";
    for (const LayerGroup& group : groups) pass += fmt::format(" {}:{}", group.first, group.end);
    for (const std::size_t i : apart_) {
      const std::string key = fmt::format("{} {}", pass, i);
      const PassRecord* record = state_.find(key);
      if (!record) record = &state_.keep(key, judged(i, groups));
      if (record->groups.size() != groups.size()) {
        fail_input("{}: damaged; remove it", options_.state);
      }
      records.push_back(record);
      prefills_ += record->prefills;
      tell("what they are worth", 2);
    }
    std::vector<SharePoint> points;
    for (std::size_t g = 0; g < groups.size(); ++g) points.push_back(point(groups[g], g, records));
    return points;
  }

  SharePoint point(const LayerGroup& group, std::size_t g,
                   const std::vector<const PassRecord*>& records) const {
    SharePoint out{.group = group,
                   .cost = static_cast<double>(group.count()) / static_cast<double>(layers_)};
    const auto tried = std::ranges::find(tried_, group, &TriedGroup::group);
    if (tried != tried_.end()) out.chosen_by = estimated(tried->divergence, options_.seed);
    std::vector<double> means, tokens;
    const auto count = static_cast<double>(records.size());
    for (const PassRecord* record : records) {
      const GroupRecord& found = record->groups[g];
      means.push_back(mean_of(found.divergence));
      tokens.insert(tokens.end(), found.divergence.begin(), found.divergence.end());
      out.top1 += found.same / count;
      out.nll += found.nll / count;
      out.nll_own += record->nll_own / count;
      out.f1 += found.f1 / count;
      out.f1_own += record->f1_own / count;
    }
    out.divergence = estimated(means, options_.seed);
    out.divergence_p99 = quantile(tokens, 0.99);
    return out;
  }

  void choose() {
    SharePlan& plan = plan_;
    if (first_ == layers_) {
      plan.why = "the models make the same keys and values: all can be reused";
      return;
    }
    if (!options_.budget.empty()) {
      plan.chosen = choose_point(plan, options_.budget);
      plan.why = "within " + options_.budget;
      return;
    }
    plan.chosen = default_point(plan);
    const LayerGroup& group = plan.point().group;
    if (2 * group.count() <= layers_) {
      plan.why = "the cheapest that leaves a tenth of full reuse's divergence or less";
    } else {
      plan.why = fmt::format(
          "no group of half the layers or fewer leaves a tenth of full reuse's "
          "divergence: cheap sharing does not help this pair");
    }
  }

  const Session &from_, &to_;
  const ProfileOptions& options_;
  std::vector<PairPrompt> pairs_;
  std::int64_t layers_, first_, step_;
  ProfileState state_;
  std::vector<std::size_t> choosing_, apart_;  // prompts
  std::vector<TriedGroup> tried_;
  double prefills_ = 0, work_ = 1, done_ = 0;
  SharePlan plan_;
};

}  // namespace

SharePlan profile_pair(const Session& from, const Session& to, const std::vector<Prompt>& prompts,
                       const ProfileOptions& options) {
  if (prompts.size() < 2) fail_usage("{} prompts: two are needed at least", prompts.size());
  if (from.identity.tokenizer_fingerprint != to.identity.tokenizer_fingerprint) {
    fail_input("{} and {} have different tokenizers", from.identity.name, to.identity.name);
  }
  if (!options.budget.empty()) parse_budget(options.budget);
  return Profiling(from, to, prompts, options).run();
}

}  // namespace kv
