#include "kv/stream/loss.hh"

#include "kv/stream/spec.hh"

#include <algorithm>

namespace kv {
namespace {

// Purposes of a path's generators.
enum : std::uint64_t { kStart = 1, kOutages = 2, kPackets = 16 };

}  // namespace

LossSpec parse_loss(const std::string& text) {
  LossSpec spec;
  spec.text = text;
  const Spec parts("--loss", text);
  if (parts.name() == "none" && parts.size() == 0) {
    spec.kind = LossSpec::Kind::kNone;
  } else if (parts.name() == "iid" && parts.size() == 1) {
    spec.kind = LossSpec::Kind::kIid;
    spec.iid = parts.number(0, 0, 1);
  } else if (parts.name() == "ge" && parts.size() == 4) {
    spec.kind = LossSpec::Kind::kGilbertElliott;
    spec.good_to_bad = parts.number(0, 0, 1);
    spec.bad_to_good = parts.number(1, 0, 1);
    spec.loss_good = parts.number(2, 0, 1);
    spec.loss_bad = parts.number(3, 0, 1);
  } else if (parts.name() == "bursts" && (parts.size() == 2 || parts.size() == 3)) {
    spec.kind = LossSpec::Kind::kBursts;
    spec.burst = parts.ms(0, 1, 1e6);
    spec.rate = parts.number(1, 0, 1);
    if (parts.size() == 3) spec.in_burst = parts.number(2, 0, 1);
    if (!(spec.rate < spec.in_burst)) {
      fail_usage("--loss '{}': RATE must be below what is lost in a burst", text);
    }
  } else if (parts.name() == "trace" && (parts.size() == 1 || parts.size() == 2)) {
    spec.kind = LossSpec::Kind::kTrace;
    spec.burst = parts.size() == 2 ? parts.ms(1, 0, 1e6) : 100 * kMillisecond;
    spec.windows = std::make_shared<const std::vector<NetworkWindow>>(
        read_windows(Input::open(parts.text(0))));
  } else {
    fail_usage("--loss '{}': give none, iid:P, ge:P,R,G,B, bursts:MS,RATE[,IN] or trace:FILE[,MS]",
               text);
  }
  return spec;
}

Outages::Outages(const LossSpec& spec, std::uint64_t seed) : spec_(&spec), random_(seed, kOutages) {
  if (spec.kind == LossSpec::Kind::kTrace) {
    // Anywhere in the trace, so that many streams see all of it.
    Random start(seed, kStart);
    window_ = start.next() % spec.windows->size();
    window_until_ =
        static_cast<TimeNs>(start.uniform() * static_cast<double>((*spec.windows)[window_].length));
    enter(0, share());
  } else if (spec.kind == LossSpec::Kind::kBursts) {
    enter(0, share());
  }
}

const NetworkWindow* Outages::window() const {
  return spec_->windows ? &(*spec_->windows)[window_] : nullptr;
}

// Of time that is out.
double Outages::share() const {
  if (spec_->kind == LossSpec::Kind::kBursts) return spec_->rate / spec_->in_burst;
  return spec_->burst > 0 ? window()->loss : 0;
}

// Draws the state as it is on average, then how long it holds.
void Outages::enter(TimeNs now, double share) {
  out_ = random_.chance(share);
  if (share <= 0 || share >= 1) {
    until_ = kNever;
  } else {
    const auto good = static_cast<TimeNs>(static_cast<double>(spec_->burst) * (1 - share) / share);
    until_ = now + random_.exponential(out_ ? spec_->burst : good);
  }
}

void Outages::at(TimeNs now) {
  while (now >= std::min(until_, window_until_)) {
    if (window_until_ <= until_) {
      window_ = (window_ + 1) % spec_->windows->size();
      const TimeNs began = window_until_;
      window_until_ += window()->length;
      enter(began, share());
      continue;
    }
    out_ = !out_;
    const double share_out = share();
    const auto good =
        static_cast<TimeNs>(static_cast<double>(spec_->burst) * (1 - share_out) / share_out);
    until_ += random_.exponential(out_ ? spec_->burst : good);
  }
}

Loss::Loss(const LossSpec& spec, std::uint64_t path_seed, std::uint64_t direction)
    : spec_(&spec), outages_(spec, path_seed), random_(path_seed, kPackets + direction) {
  if (spec.kind == LossSpec::Kind::kGilbertElliott && spec.good_to_bad > 0) {
    bad_ = random_.chance(spec.good_to_bad / (spec.good_to_bad + spec.bad_to_good));
  }
}

bool Loss::lost(TimeNs now) {
  switch (spec_->kind) {
    case LossSpec::Kind::kNone:
      return false;
    case LossSpec::Kind::kIid:
      return random_.chance(spec_->iid);
    case LossSpec::Kind::kGilbertElliott: {
      const bool lost = random_.chance(bad_ ? spec_->loss_bad : spec_->loss_good);
      bad_ = random_.chance(bad_ ? 1 - spec_->bad_to_good : spec_->good_to_bad);
      return lost;
    }
    case LossSpec::Kind::kBursts:
      outages_.at(now);
      return outages_.out() && random_.chance(spec_->in_burst);
    case LossSpec::Kind::kTrace:
      outages_.at(now);
      return spec_->burst > 0 ? outages_.out() : random_.chance(outages_.window()->loss);
  }
  return false;
}

const NetworkWindow* Loss::window(TimeNs now) {
  if (spec_->kind == LossSpec::Kind::kTrace) outages_.at(now);
  return outages_.window();
}

}  // namespace kv
