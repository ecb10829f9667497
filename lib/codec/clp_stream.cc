#include "clp_stream.hh"

#include "kv/kernels/rans.hh"
#include "zstd_bytes.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr std::int64_t kLanes = 32;

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

const RansTables& shared_tables() {
  static const RansTables tables = [] {
    const std::span rows = Classes::get().tables();
    return RansTables(std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  }();
  return tables;
}

struct Step {
  std::int64_t coefficient;
  std::int64_t group;
  std::uint8_t low_bits;
};

// Which symbols a tile has, in which order: known to both ends once the steps are.
class Plan {
 public:
  // Tokens of one step stand together, so that 32 lanes share a class.
  Plan(const TensorProfile& profile, const TileSteps& steps) {
    const std::size_t tokens = steps.tokens.size();
    std::size_t exact = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
      if (exact < steps.exact.size() && steps.exact[exact] == t) {
        ++exact;
      } else {
        order_.push_back(static_cast<std::uint16_t>(t));
      }
    }
    std::stable_sort(order_.begin(), order_.end(), [&](std::uint16_t a, std::uint16_t b) {
      return steps.tokens[a] < steps.tokens[b];
    });
    std::vector<int> eighths;  // by group: of its middle token
    for (std::size_t first = 0; first < order_.size(); first += kLanes) {
      const std::size_t last = std::min(first + kLanes, order_.size()) - 1;
      eighths.push_back(steps.eighths(order_[(first + last) / 2]));
    }
    const Classes& classes = Classes::get();
    for (std::int64_t k = 0; k < profile.channels; ++k) {
      const auto at = static_cast<std::size_t>(k);
      for (std::size_t group = 0; group < eighths.size(); ++group) {
        const ClassCode code = classes.code(profile.shape[at], profile.sigma[at] - eighths[group]);
        if (!code.zero) add(k, static_cast<std::int64_t>(group), code);
      }
    }
  }

  const std::vector<RansStep>& rans() const { return rans_; }
  const std::vector<Step>& steps() const { return steps_; }
  std::uint32_t planes() const { return planes_; }
  // Tokens of a group.
  std::span<const std::uint16_t> lanes(std::int64_t group) const {
    const auto first = static_cast<std::size_t>(group * kLanes);
    return std::span(order_).subspan(first, std::min<std::size_t>(kLanes, order_.size() - first));
  }

 private:
  void add(std::int64_t coefficient, std::int64_t group, const ClassCode& code) {
    steps_.push_back({coefficient, group, code.low_bits});
    rans_.push_back({code.table, static_cast<std::uint16_t>(lanes(group).size())});
    planes_ += code.low_bits;
  }

  std::vector<std::uint16_t> order_;
  std::vector<Step> steps_;
  std::vector<RansStep> rans_;
  std::uint32_t planes_ = 0;
};

// Symbols, planes and escapes of a plan's steps.
struct Symbols {
  std::vector<std::int8_t> values;  // 32 a step
  std::vector<std::uint32_t> planes;
  std::vector<std::int8_t> escapes;
};

int most_of(std::uint16_t table) {
  return static_cast<int>(Classes::get().tables()[table].size()) / 2 - 1;
}

// value_of(token) of one step, split.
template <typename F>
void append_step(Symbols& out, std::span<const std::uint16_t> lanes, std::uint16_t table,
                 std::uint8_t low_bits, F&& value_of) {
  const int most = most_of(table);
  const int half = low_bits > 0 ? 1 << (low_bits - 1) : 0;
  const std::size_t first = out.values.size(), plane = out.planes.size();
  out.values.resize(first + kLanes);
  out.planes.resize(plane + low_bits);
  for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
    const int value = value_of(lanes[lane]);
    const int symbol = (value + half) >> low_bits;
    if (symbol < -most || symbol > most) {
      out.values[first + lane] = -128;
      out.escapes.push_back(static_cast<std::int8_t>(value));
      continue;
    }
    out.values[first + lane] = static_cast<std::int8_t>(symbol);
    const int low = value + half - (symbol << low_bits);
    for (std::uint8_t bit = 0; bit < low_bits; ++bit) {
      out.planes[plane + bit] |= static_cast<std::uint32_t>(low >> bit & 1) << lane;
    }
  }
}

// Walks over decoded symbols in order and gives back values.
class SymbolReader {
 public:
  explicit SymbolReader(const Symbols& symbols) : symbols_(symbols) {}

  // use(lane, value) for each lane of the next step.
  template <typename F>
  void next(std::size_t lanes, std::uint8_t low_bits, F&& use) {
    const std::int8_t* values = symbols_.values.data() + at_;
    const int half = low_bits > 0 ? 1 << (low_bits - 1) : 0;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      int value = values[lane];
      if (value == -128) {
        value = symbols_.escapes[escape_++];
      } else if (low_bits > 0) {
        value = value * (1 << low_bits) - half;
        for (std::uint8_t bit = 0; bit < low_bits; ++bit) {
          value += static_cast<int>(symbols_.planes[plane_ + bit] >> lane & 1) << bit;
        }
      }
      use(lane, value);
    }
    plane_ += low_bits;
    at_ += kLanes;
  }

 private:
  const Symbols& symbols_;
  std::size_t at_ = 0, plane_ = 0, escape_ = 0;
};

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

Bytes assemble(const TileHead& head, const TileCode& code, const Bytes& steps,
               const Symbols& symbols, const std::vector<RansStep>& rans) {
  ByteWriter out;
  out.put(head);
  out.put_bytes(std::as_bytes(std::span(code.steps.exact)));
  out.put_bytes(code.exact_rows);
  out.put_bytes(steps);
  out.put_bytes(std::as_bytes(std::span(symbols.planes)));
  out.put_bytes(std::as_bytes(std::span(symbols.escapes)));
  Bytes bytes = out.take();
  const RansEncodeJob job{rans, symbols.values.data(), &bytes};
  rans_encode(shared_tables(), {&job, 1});
  return bytes;
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

// Symbols of all steps of a plan. Planes and escapes must be used up.
Symbols read_symbols(const Plan& plan, ByteView stream, std::vector<std::uint32_t> planes,
                     std::vector<std::int8_t> escapes, const std::string& place) {
  Symbols symbols{.planes = std::move(planes), .escapes = std::move(escapes)};
  symbols.values.resize(plan.rans().size() * kLanes);
  std::vector<std::uint32_t> places(symbols.escapes.size());
  RansDecodeJob job{stream, plan.rans(), symbols.values.data(), places};
  if (!rans_decode(shared_tables(), {&job, 1}) || job.escape_count != places.size() ||
      plan.planes() != symbols.planes.size()) {
    fail_input("{}: the coded coefficients are damaged; make the file again", place);
  }
  return symbols;
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

Bytes write_tile_code(const TensorProfile& profile, std::uint64_t profile_hash, TileCode& code,
                      const std::vector<std::int8_t>* near) {
  const TileSteps& steps = code.steps;
  TileHead head{.profile = profile_hash, .base = static_cast<std::int16_t>(steps.base)};
  const Bytes coded_steps = steps_bytes(steps.tokens, near, head);
  Symbols symbols;
  const Plan plan(profile, steps);
  Quads coded(profile.channels, static_cast<std::int64_t>(steps.tokens.size()));
  for (std::size_t i = 0; i < plan.steps().size(); ++i) {
    const Step& step = plan.steps()[i];
    append_step(symbols, plan.lanes(step.group), plan.rans()[i].table, step.low_bits,
                [&](std::uint16_t t) {
                  const int value = code.coefficients.value(step.coefficient, t);
                  coded.at(step.coefficient, t) = static_cast<std::uint8_t>(value + 128);
                  return value;
                });
    code.used = step.coefficient + 1;
  }
  code.coefficients = std::move(coded);
  head.exact_count = static_cast<std::uint16_t>(steps.exact.size());
  head.escape_count = static_cast<std::uint32_t>(symbols.escapes.size());
  head.plane_count = static_cast<std::uint32_t>(symbols.planes.size());
  return assemble(head, code, coded_steps, symbols, plan.rans());
}

TileCode read_tile_code(const TensorProfile& profile, std::int64_t tokens, std::size_t row_bytes,
                        const std::vector<std::int8_t>* near, ByteView data,
                        const std::string& place) {
  ByteReader reader(data, place);
  const auto head = reader.get<TileHead>();
  check_head(head, tokens, place);
  TileCode code;
  code.steps.base = head.base;
  code.steps.tokens.resize(static_cast<std::size_t>(tokens));
  code.steps.exact = take_list<std::uint16_t>(reader, head.exact_count);
  check_exact(code.steps.exact, tokens, place);
  code.exact_rows = reader.take(head.exact_count * row_bytes);
  const ByteView coded_steps = reader.take(head.steps_bytes);
  auto planes = take_list<std::uint32_t>(reader, head.plane_count);
  auto escapes = take_list<std::int8_t>(reader, head.escape_count);
  if (!coded_steps.empty()) read_steps(head, near, coded_steps, place, code.steps.tokens);
  const Plan plan(profile, code.steps);
  const Symbols symbols = read_symbols(plan, reader.take(reader.remaining()), std::move(planes),
                                       std::move(escapes), place);
  code.coefficients = Quads(profile.channels, tokens);
  SymbolReader values(symbols);
  for (const Step& step : plan.steps()) {
    const std::span<const std::uint16_t> lanes = plan.lanes(step.group);
    values.next(lanes.size(), step.low_bits, [&](std::size_t lane, int value) {
      code.coefficients.at(step.coefficient, lanes[lane]) = static_cast<std::uint8_t>(value + 128);
    });
    code.used = step.coefficient + 1;
  }
  return code;
}

std::uint64_t profile_of(ByteView data, const std::string& place) {
  return ByteReader(data, place).get<TileHead>().profile;
}

}  // namespace kv
