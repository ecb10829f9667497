#include "clp_stream.hh"

#include "zstd_bytes.hh"

#include <algorithm>

namespace kv {
namespace {

struct TileHead {
  std::uint64_t profile = 0;
  std::int16_t base = 0;
  std::uint16_t flags = 0;
  std::uint16_t exact_count = 0;
  std::uint16_t steps_bytes = 0;  // 0: all tokens have the base step
  std::uint32_t plane_count = 0;  // 32-bit words
  std::uint32_t escape_count = 0;
};
static_assert(sizeof(TileHead) == 24);
constexpr std::uint16_t kNearSteps = 1;

// The steps, or what they are beside the steps of the tensor before, whichever is smaller.
Bytes steps_bytes(const std::vector<std::int8_t>& steps, const std::vector<std::int8_t>* near,
                  TileHead& head) {
  if (std::all_of(steps.begin(), steps.end(), [](std::int8_t step) { return step == 0; }))
    return {};
  std::vector<std::uint8_t> values(steps.begin(), steps.end());
  Bytes plain, beside;
  append_zstd(values, plain);
  if (near) {
    for (std::size_t t = 0; t < steps.size(); ++t) {
      values[t] = static_cast<std::uint8_t>(steps[t] - (*near)[t]);
    }
    append_zstd(values, beside);
    if (beside.size() < plain.size()) {
      head.flags |= kNearSteps;
      plain = std::move(beside);
    }
  }
  head.steps_bytes = static_cast<std::uint16_t>(plain.size());
  return plain;
}

template <typename T>
std::vector<T> take_list(ByteReader& reader, std::size_t count) {
  const ByteView bytes = reader.take(count * sizeof(T));
  std::vector<T> list(count);
  if (count > 0) std::memcpy(list.data(), bytes.data(), bytes.size());
  return list;
}

void read_steps(const TileHead& head, const std::vector<std::int8_t>* near, ByteView coded,
                const std::string& place, std::vector<std::int8_t>& steps) {
  if ((head.flags & kNearSteps) && !near) {
    fail_input("{}: steps beside those of a tensor that is not there", place);
  }
  std::vector<std::uint8_t> values(steps.size());
  if (!read_zstd(coded, values)) fail_input("{}: the steps are no zstd frame of them", place);
  for (std::size_t t = 0; t < steps.size(); ++t) {
    const int step =
        static_cast<std::int8_t>(values[t]) + (head.flags & kNearSteps ? (*near)[t] : 0);
    if (step < -kMostTokenStep || step > kMostTokenStep) {
      fail_input("{}: token {} has step {}", place, t, step);
    }
    steps[t] = static_cast<std::int8_t>(step);
  }
}

void check_head(const TileHead& head, std::int64_t tokens, const std::string& place) {
  if ((head.flags & ~kNearSteps) || (head.flags && head.steps_bytes == 0)) {
    fail_input("{}: reserved bits are set", place);
  }
  if (head.base < -kMostBaseStep || head.base > kMostBaseStep) {
    fail_input("{}: step {} is out of range", place, head.base);
  }
  if (head.exact_count > tokens) fail_input("{}: {} exact tokens", place, head.exact_count);
}

void check_exact(const std::vector<std::uint16_t>& exact, std::int64_t tokens,
                 const std::string& place) {
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (exact[i] >= tokens || (i > 0 && exact[i] <= exact[i - 1])) {
      fail_input("{}: exact token {} is out of order", place, exact[i]);
    }
  }
}

}  // namespace

void TileCode::make_plan(const TensorProfile& profile) {
  plan = std::make_unique<const SymbolPlan>(profile.shape, profile.sigma, steps);
}

Bytes write_tile_code(std::uint64_t profile_hash, const TileCode& code,
                      const std::vector<std::int8_t>* near) {
  TileHead head{.profile = profile_hash, .base = static_cast<std::int16_t>(code.steps.base)};
  const Bytes coded_steps = steps_bytes(code.steps.tokens, near, head);
  const CodedSymbols& symbols = code.symbols;
  head.exact_count = static_cast<std::uint16_t>(code.steps.exact.size());
  head.plane_count = static_cast<std::uint32_t>(symbols.planes.size());
  head.escape_count = static_cast<std::uint32_t>(symbols.escapes.size());
  ByteWriter out;
  out.put(head);
  out.put_bytes(std::as_bytes(std::span(code.steps.exact)));
  out.put_bytes(code.exact_rows);
  out.put_bytes(coded_steps);
  out.put_bytes(std::as_bytes(std::span(symbols.planes)));
  out.put_bytes(std::as_bytes(std::span(symbols.escapes)));
  out.put_bytes(symbols.stream);
  return out.take();
}

void read_tile_code(std::int64_t tokens, std::size_t row_bytes,
                    const std::vector<std::int8_t>* near, ByteView data, const std::string& place,
                    TileCode& code) {
  ByteReader reader(data, place);
  const auto head = reader.get<TileHead>();
  check_head(head, tokens, place);
  code.steps.base = head.base;
  code.steps.tokens.assign(static_cast<std::size_t>(tokens), 0);
  code.steps.exact = take_list<std::uint16_t>(reader, head.exact_count);
  check_exact(code.steps.exact, tokens, place);
  code.exact_rows = reader.take(head.exact_count * row_bytes);
  const ByteView coded_steps = reader.take(head.steps_bytes);
  code.planes = reader.take(sizeof(std::uint32_t) * std::size_t{head.plane_count});
  code.escapes = reader.take(head.escape_count);
  code.stream = reader.take(reader.remaining());
  if (!coded_steps.empty()) read_steps(head, near, coded_steps, place, code.steps.tokens);
}

void decode_coefficients(std::span<const CoefficientJob> jobs) {
  std::vector<DecodeSymbols> symbols;
  const auto require = [](const CoefficientJob& job, bool holds) {
    if (holds) return;
    fail_input("{}: the coded coefficients are damaged; make the file again", *job.place);
  };
  for (const CoefficientJob& job : jobs) {
    TileCode& code = *job.code;
    code.make_plan(*job.profile);
    require(job, code.planes.size() == sizeof(std::uint32_t) * code.plan->planes());
    code.coefficients.shape(job.profile->channels,
                            static_cast<std::int64_t>(code.steps.tokens.size()));
    symbols.push_back(
        {code.plan.get(), code.planes, code.escapes, code.stream, &code.coefficients});
  }
  decode_symbols(symbols);
  for (std::size_t i = 0; i < jobs.size(); ++i) require(jobs[i], symbols[i].intact);
}

std::uint64_t profile_of(ByteView data, const std::string& place) {
  return ByteReader(data, place).get<TileHead>().profile;
}

}  // namespace kv
