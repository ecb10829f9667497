#include "kv/calibrate/profile_job.hh"

#include "kv/base/hash.hh"
#include "kv/calibrate/quality_map.hh"
#include "kv/calibrate/sensitivity.hh"
#include "kv/codec/rate_control.hh"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace kv {
namespace {

// Of the spread: about the errors of level 2, at which what errors do is measured.
constexpr double kSpread = 0.7;
constexpr std::size_t kFirstFit = 4;  // windows of the fit that only tells what errors look like
constexpr double kFitToken = 1.0, kProbeOf = 1.0, kPointToken = 1.6;  // in tokens of prefill

double share_of(int level) { return kLevelAims[static_cast<std::size_t>(level)].share; }

class Job {
 public:
  Job(const Session& session, const Samples& samples, const ProfileJobOptions& options)
      : session_(session), samples_(samples), options_(options) {
    for (std::size_t w = 0; w < samples.fitted(); ++w) tokens_ += samples.tokens(w);
    tensors_ = static_cast<double>(order_of(samples.meta()).size());
  }

  void run(const std::function<void(Profile&, double)>& on_profile) {
    spread_ = steps_from_rms(samples_, kSpread);
    StepTable balanced;
    std::map<StepTable::key_type, int> even;
    if (options_.sensitivity) {
      const auto [by_importance, evenly] = sensitivities();
      balanced = balanced_steps(spread_, by_importance, 1);
      for (const auto& [tensor, divergence] : by_importance) {
        even[tensor] = even_step(divergence, evenly.at(tensor));
      }
    }
    for (const int level : options_.levels) {
      phase(fmt::format("level {}: fitting", level));
      StepTable steps = options_.sensitivity ? balanced : spread_;
      for (auto& [tensor, step] : steps) step *= share_of(level);
      CalibrateResult result = fit(level, steps, samples_.fitted());
      for (TensorProfile& tensor : result.profile.tensors) {
        tensor.even_step = even[{tensor.layer, tensor.kind}];
      }
      if (options_.map && samples_.windows() > samples_.fitted()) {
        phase(fmt::format("level {}: measuring", level));
        result.profile.map = map_of(result.profile);
        result.profile.to_bytes();
      }
      on_profile(result.profile, result.bits);
    }
  }

 private:
  void phase(const std::string& text) const {
    if (options_.on_phase) options_.on_phase(text);
  }
  void work(double amount) const {
    if (options_.on_work) options_.on_work(amount);
  }

  CalibrateResult fit(int level, const StepTable& steps, std::size_t windows) const {
    double tokens = 0;
    for (std::size_t w = 0; w < windows; ++w) tokens += static_cast<double>(samples_.tokens(w));
    return calibrate(samples_, {.level = level,
                                .steps = steps,
                                .restart = options_.restart,
                                .layers_back = options_.layers_back,
                                .windows = windows,
                                .margin = options_.margin,
                                .made_from = options_.made_from,
                                .on_tensor = [&] { work(tokens * kFitToken / tensors_); }});
  }

  std::vector<ProfilePoint> map_of(const Profile& profile) const {
    MapOptions options{.work_dir = options_.work_dir, .threads = session_.model->threads()};
    options.on_point = [&] { work(static_cast<double>(samples_.tokens(0)) * kPointToken); };
    return measure_map(session_, samples_, std::make_shared<const Profile>(profile), options);
  }

  // Of the samples and of all that they are measured with.
  std::string kept_path() const {
    Fingerprint print;
    print.add_text(samples_.meta().model.fingerprint);
    for (std::size_t w = 0; w < samples_.fitted(); ++w) {
      print.add_text(std::filesystem::path(samples_.path(w)).filename().string());
    }
    print.add_text(fmt::format("4 {} {} {}", options_.restart, options_.layers_back,
                               dtype_name(session_.model->compute())));
    return fmt::format("{}/{}.errors", options_.work_dir, print.hex().substr(0, 16));
  }

  // Of errors by importance, and of even ones.
  std::pair<StepTable, StepTable> sensitivities() const {
    const auto order = order_of(samples_.meta());
    std::vector<double> numbers(2 * order.size());
    const std::string path = kept_path();
    std::pair<StepTable, StepTable> tables;
    if (std::filesystem::exists(path)) {
      Input input = Input::open(path);
      const auto bytes = std::as_writable_bytes(std::span(numbers));
      if (input.read(bytes) != bytes.size()) fail_input("{}: too short; remove it", path);
      for (std::size_t i = 0; i < order.size(); ++i) {
        tables.first[order[i]] = numbers[i];
        tables.second[order[i]] = numbers[order.size() + i];
      }
      return tables;
    }
    phase("fitting");
    const CalibrateResult first =
        fit(options_.levels.front(), spread_, std::min(kFirstFit, samples_.fitted()));
    phase("measuring what errors do");
    SensitivityOptions options;
    options.on_tensor = [&] {
      work(static_cast<double>(samples_.tokens(0)) * kProbeOf / tensors_);
    };
    tables.first = measure_sensitivity(session_, samples_, first.profile, options);
    options.even = true;
    tables.second = measure_sensitivity(session_, samples_, first.profile, options);
    for (std::size_t i = 0; i < order.size(); ++i) {
      numbers[i] = tables.first.at(order[i]);
      numbers[order.size() + i] = tables.second.at(order[i]);
    }
    Output output = Output::create(path, true);
    output.write(std::as_bytes(std::span(numbers)));
    output.commit();
    return tables;
  }

  const Session& session_;
  const Samples& samples_;
  const ProfileJobOptions& options_;
  std::int64_t tokens_ = 0;
  double tensors_ = 0;
  StepTable spread_;
};

}  // namespace

double profile_work(std::int64_t tokens, std::size_t fitted, std::size_t held_out,
                    const ProfileJobOptions& options) {
  const double windows = static_cast<double>(fitted + held_out);
  const double a_window = static_cast<double>(tokens) / std::max(1.0, windows);
  const auto of = [](std::size_t count) { return static_cast<double>(count); };
  double work = 0;
  if (options.sensitivity) {
    work += a_window * of(std::min(kFirstFit, fitted)) * kFitToken;
    work += 2 * a_window * of(std::min(SensitivityOptions{}.windows, fitted)) * kProbeOf;
  }
  double level = a_window * of(fitted) * kFitToken;
  if (options.map) level += a_window * of(held_out * MapOptions{}.steps.size()) * kPointToken;
  return work + of(options.levels.size()) * level;
}

void make_profiles(const Session& session, const Samples& samples, const ProfileJobOptions& options,
                   const std::function<void(Profile&, double)>& on_profile) {
  Job(session, samples, options).run(on_profile);
}

}  // namespace kv
