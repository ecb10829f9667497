#include "kv/kernels/rans.hh"

#include "cpu_features.hh"
#include "kv/kernels/rans_row.hh"

#include <atomic>
#include <bit>
#include <stdexcept>
#include <string>

namespace kv {

namespace {

thread_local RansTarget last_target = RansTarget::kScalar;

[[noreturn]] void refuse(std::size_t row, const std::string& why) {
  throw std::invalid_argument("rANS table " + std::to_string(row) + ": " + why);
}

// The first n entries again and again.
void repeat(RansRow::Words& words, std::size_t n) {
  for (std::size_t i = n; i < words.size(); ++i) words[i] = words[i - n];
}

void fill_divisor(RansRow& row, std::size_t i) {
  const std::uint32_t scaled = row.scaled[i];
  const int shift = std::countl_zero(static_cast<std::uint16_t>(scaled));
  const std::uint32_t divisor = scaled << shift;
  row.shift[i] = static_cast<std::uint16_t>(shift);
  row.power[i] = static_cast<std::uint16_t>(1u << shift);
  row.reciprocal[i] = static_cast<std::uint16_t>(0xFFFFFFFFu / divisor - 0x10000u);
  row.digit[i] = static_cast<std::uint16_t>(std::min(0x80000000u / divisor, 0xFFFFu));
}

void fill(RansRow& row, std::size_t number, std::span<const std::uint16_t> frequencies) {
  const std::size_t n = frequencies.size();
  if (n < 4 || n > kRansLanes || !std::has_single_bit(n)) {
    refuse(number, std::to_string(n) + " symbols; there are tables of 4, 8, 16 and 32");
  }
  row.symbols = static_cast<std::uint16_t>(n);
  row.bits = static_cast<std::uint16_t>(std::countr_zero(n));
  row.half.fill(static_cast<std::uint16_t>(n / 2));
  row.below.fill(static_cast<std::uint16_t>(n / 2 - 1));
  row.last.fill(static_cast<std::uint16_t>(n - 1));
  std::uint32_t sum = 0;
  for (std::size_t i = n; i-- > 0;) {
    const std::uint32_t frequency = frequencies[n - 1 - i];
    if (frequency == 0) refuse(number, "symbol " + std::to_string(n - 1 - i) + " has frequency 0");
    row.start[i] = static_cast<std::uint16_t>(sum);
    row.scaled[i] = static_cast<std::uint16_t>(frequency << 4);
    sum += frequency;
    if (sum > 1u << kRansScaleBits) break;
  }
  if (sum != 1u << kRansScaleBits) refuse(number, "the frequencies do not sum to 4096");
  for (std::size_t i = 0; i < n; ++i) fill_divisor(row, i);
  for (auto* words :
       {&row.scaled, &row.start, &row.shift, &row.power, &row.reciprocal, &row.digit}) {
    repeat(*words, n);
  }
  for (std::size_t bit = 0; bit < row.split.size(); ++bit) {
    RansRow::Words& bounds = row.split[bit];
    if (bit >= row.bits) {
      bounds.fill(0);
      continue;
    }
    const std::size_t prefixes = n >> (bit + 1);
    for (std::size_t p = 0; p < prefixes; ++p) {
      bounds[p] = row.start[(p << (bit + 1)) + (std::size_t{1} << bit) - 1];
    }
    repeat(bounds, prefixes);
  }
}

}  // namespace

RansTables::RansTables(std::span<const std::span<const std::uint16_t>> frequencies)
    : count_(frequencies.size()) {
  if (count_ > kRansMaxTables) refuse(kRansMaxTables, "there are at most 1024");
  rows_ = std::make_unique_for_overwrite<RansRow[]>(count_);
  for (std::size_t i = 0; i < count_; ++i) fill(rows_[i], i, frequencies[i]);
}
RansTables::~RansTables() = default;
RansTables::RansTables(RansTables&&) noexcept = default;
RansTables& RansTables::operator=(RansTables&&) noexcept = default;

int RansTables::symbols(std::size_t table) const {
  if (table >= count_) refuse(table, "there is none");
  return rows_[table].symbols;
}

const char* rans_target_name(RansTarget target) {
  switch (target) {
    case RansTarget::kScalar:
      return "scalar";
    case RansTarget::kAvx2:
      return "AVX2";
    case RansTarget::kAvx512:
      return "AVX-512";
  }
  return "unknown";
}

bool rans_has_target(RansTarget target) {
  if (target == RansTarget::kAvx2) return cpu_has_avx2_group();
  if (target == RansTarget::kAvx512) return cpu_has_avx512_vbmi2();
  return target == RansTarget::kScalar;
}

RansTarget rans_best_target() {
  static const RansTarget best = rans_has_target(RansTarget::kAvx512) ? RansTarget::kAvx512
                                 : rans_has_target(RansTarget::kAvx2) ? RansTarget::kAvx2
                                                                      : RansTarget::kScalar;
  return best;
}

namespace {

std::atomic<RansTarget>& chosen_target() {
  static std::atomic<RansTarget> target{rans_best_target()};
  return target;
}

}  // namespace

RansTarget rans_target() { return chosen_target().load(std::memory_order_relaxed); }

RansTarget rans_last_target() { return last_target; }
void rans_set_last_target(RansTarget target) { last_target = target; }

bool rans_valid_steps(const RansTables& tables, std::span<const RansStep> steps) {
  if (steps.size() > kRansMaxSteps) return false;
  bool bad = false;
  for (const RansStep& step : steps) {
    bad |= step.table >= tables.size();
    bad |= step.lanes - 1u >= kRansLanes;
  }
  return !bad;
}

namespace {

void check_target(RansTarget target) {
  if (!rans_has_target(target)) {
    throw std::invalid_argument(std::string("this processor has no ") + rans_target_name(target));
  }
}

}  // namespace

void set_rans_target(RansTarget target) {
  check_target(target);
  chosen_target() = target;
}

bool rans_decode(const RansTables& tables, std::span<RansDecodeJob> jobs, RansTarget target) {
  check_target(target);
  for (RansDecodeJob& job : jobs) {
    job.escape_count = 0;
    job.intact = false;
  }
  switch (target) {
#ifdef __x86_64__
    case RansTarget::kAvx512:
      avx512::decode(tables, jobs);
      break;
    case RansTarget::kAvx2:
      avx2::decode(tables, jobs);
      break;
#endif
    default:
      scalar::decode(tables, jobs);
  }
  bool intact = true;
  for (const RansDecodeJob& job : jobs) intact &= job.intact;
  return intact;
}

void rans_encode(const RansTables& tables, std::span<const RansEncodeJob> jobs, RansTarget target) {
  check_target(target);
  for (const RansEncodeJob& job : jobs) {
    if (!rans_valid_steps(tables, job.steps)) {
      throw std::invalid_argument("rANS steps: too many, or one without a table or lanes");
    }
  }
  switch (target) {
#ifdef __x86_64__
    case RansTarget::kAvx512:
      avx512::encode(tables, jobs);
      break;
    case RansTarget::kAvx2:
      avx2::encode(tables, jobs);
      break;
#endif
    default:
      scalar::encode(tables, jobs);
  }
}

}  // namespace kv
