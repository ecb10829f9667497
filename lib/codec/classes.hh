#pragma once
// The static distributions of quantised coefficients, kv(5) "Classes": a shape and a standard
// deviation in steps, on a grid of eighths of an octave, so that a step of 2^(i/8) moves a class by
// i places. Their tables are numbers of the format: every coder computes the same ones, from IEEE
// doubles with +, -, *, / alone, in the order written here.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kv {

enum class Shape : std::uint8_t { kGauss = 0, kBlend = 1, kLaplace = 2, kHeavy = 3 };
inline constexpr int kShapes = 4;

// Deviation of grid place g, in steps: 2^(g/8).
inline constexpr int kOctave = 8;
// The least deviation, by shape, of which anything is coded: below, a 1 costs more than it is
// worth.
inline constexpr std::array<int, kShapes> kLeastCoded = {-13, -14, -15, -17};
inline constexpr int kLeastSigma = -17;  // of all shapes
inline constexpr int kMostSigma = 56;    // 128 steps

// A third of a step in eighths of an octave, rounded: 8 log2(3) is 12.68.
inline constexpr int kThird = 13;
inline constexpr int kMostThird = 16;  // places above are all alike

// What codes a coefficient of a class: a table of the entropy coder, and how many low bits stand
// beside it unchanged. The value is symbol * 2^low_bits + low bits - 2^(low_bits - 1) where there
// are low bits, else the symbol.
struct ClassCode {
  std::uint16_t table = 0;
  std::uint8_t low_bits = 0;
  bool zero = true;  // nothing is coded
};

class Classes {
 public:
  // Built once, at first use; about a millisecond.
  static const Classes& get();

  // `sigma` may be anything; above kMostSigma counts as that.
  ClassCode code(Shape shape, int sigma) const {
    return codes_[static_cast<std::size_t>(shape)][place_of(sigma)];
  }
  // Frequencies in 1/4096 by table: 4, 8, 16 or 32 symbols; the last is the escape.
  std::span<const std::vector<std::uint16_t>> tables() const { return tables_; }
  // Thirds: what 3 times a value lacks, once its step is split in three: -1, 0 or 1 on the side of
  // the value, so that 1 lies farther from 0. `context` is 0, 1 or 2 for the value's magnitude 0, 1
  // and more; `sigma` a place beside the step that is split. Where no 1 was coded before, a 0 has
  // all that the class has at the finer step. Nothing where nothing is coded.
  std::optional<std::uint16_t> third(Shape shape, int sigma, int context) const;
  // Frequencies in 1/4096, the last of an escape, which none needs. Behind those of thirds:
  // tables().
  std::span<const std::vector<std::uint16_t>> third_tables() const { return thirds_; }
  // The absolute value, in steps, below which an encoder does best to write 0. Not of the format.
  float zero_below(Shape shape, int sigma) const {
    return zero_below_[static_cast<std::size_t>(shape)][place_of(sigma)];
  }
  // Bits that `value` costs; of a class that codes nothing, what losing the value is worth.
  double cost_bits(Shape shape, int sigma, int value) const;

 private:
  Classes();
  // Tables exist for deviations below 4 steps; wider ones have low bits.
  static constexpr int kTableSigmas = 2 * kOctave - kLeastSigma;
  // Places of the grid from one below kLeastSigma, which stands for all that is narrower.
  static constexpr int kPlaces = kMostSigma - kLeastSigma + 2;
  template <typename T>
  using ByPlace = std::array<std::array<T, kPlaces>, kShapes>;
  static std::size_t place_of(int sigma) {
    return static_cast<std::size_t>(std::clamp(sigma, kLeastSigma - 1, kMostSigma) -
                                    (kLeastSigma - 1));
  }
  void fill_places();

  std::vector<std::vector<std::uint16_t>> tables_, thirds_;
  ByPlace<ClassCode> codes_;
  ByPlace<float> zero_below_;
};

}  // namespace kv
