#include "ecsq_integers.hh"

#include "clp_values.hh"

#include <algorithm>

namespace kv {
Bytes write_integers(const TensorProfile& classes, const TileSteps& steps, ByteView exact_rows,
                     Integers& integers) {
  const auto tokens = static_cast<std::int64_t>(steps.tokens.size());
  TileCode code;
  code.steps = steps;
  code.exact_rows = exact_rows;
  code.make_plan(classes);
  code.coefficients.shape(classes.channels, tokens);
  code.coefficients.clear(0);
  const std::int64_t coefficients = static_cast<std::int64_t>(integers.size()) / tokens;
  for (std::int64_t k = 0; k < coefficients; ++k) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      code.coefficients.at(k, t) =
          static_cast<std::uint8_t>(integers[static_cast<std::size_t>(k * tokens + t)] + 128);
    }
  }
  const EncodeSymbols job{code.plan.get(), &code.coefficients, &code.symbols};
  encode_symbols({&job, 1});
  clear_uncoded(*code.plan, code.coefficients);
  integers = integers_of(code, coefficients);
  return write_tile_code(0, code, nullptr);
}

void read_integers(const TensorProfile& classes, std::int64_t tokens, std::size_t row_bytes,
                   ByteView data, const std::string& place, TileCode& code) {
  if (profile_of(data, place) != 0) fail_input("{}: a tile of ecsq needs no profile", place);
  read_tile_code(tokens, row_bytes, nullptr, data, place, code);
  if (code.steps.base != 0) fail_input("{}: step {} is out of range", place, code.steps.base);
  const CoefficientJob job{&classes, &code, &place};
  decode_coefficients({&job, 1});
}

Integers integers_of(const TileCode& code, std::int64_t coefficients) {
  const auto tokens = static_cast<std::int64_t>(code.steps.tokens.size());
  Integers integers(static_cast<std::size_t>(coefficients * tokens));
  const std::int64_t coded = std::min(coefficients, (code.plan->used() + 3) / 4 * 4);
  for (std::int64_t k = 0; k < coded; ++k) {
    const std::uint8_t* quads = code.coefficients.quad(k / 4) + k % 4;
    std::int16_t* row = integers.data() + k * tokens;
    for (std::int64_t t = 0; t < tokens; ++t)
      row[t] = static_cast<std::int16_t>(quads[4 * t] - 128);
  }
  return integers;
}

}  // namespace kv
