#pragma once
// Products of rows and a matrix of weights in bf16, sums in f32, and what follows them while they
// are still in the cache: the matrix multiplications of a model's layers.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace kv {

// Weights, packed once for all targets. A bf16 is its bits.
class Bf16Matrix {
 public:
  static constexpr std::int64_t kPanelOutputs = 32, kStepInputs = 32;
  static constexpr std::int64_t kPackOutputs = 16;
  static constexpr std::int64_t kMaxSide = 1 << 20;

  // Whether the sizes are ones that can be packed: both a positive multiple of 32, in range.
  static bool fits(std::int64_t outputs, std::int64_t inputs);

  // Room for the weights, whose values pack() gives. `paired`: output i of the first half and
  // output i of the second half are put side by side, for ProductEnd::kSiluMul and kGeluMul. Throws
  // std::invalid_argument for sizes that do not fit.
  Bf16Matrix(std::int64_t outputs, std::int64_t inputs, bool paired = false);

  // The weights of outputs [first, first + kPackOutputs), `first` a multiple of kPackOutputs:
  // `rows` is [kPackOutputs][inputs], rounded to nearest, ties to even. Threads may pack different
  // outputs at once. Throws std::invalid_argument for others.
  void pack(std::int64_t first, std::span<const float> rows);

  Bf16Matrix(Bf16Matrix&&) = default;
  Bf16Matrix& operator=(Bf16Matrix&&) = default;
  Bf16Matrix(const Bf16Matrix&) = delete;

  std::int64_t outputs() const { return outputs_; }
  std::int64_t inputs() const { return inputs_; }
  std::int64_t panels() const { return outputs_ / kPanelOutputs; }
  bool paired() const { return paired_; }

  // [panel][input / 32][2][input % 32 / 2][16][input % 2]: of a panel's 32 outputs the first 16,
  // then the others (where paired: of the first half, of the second). 64-byte aligned.
  const std::uint16_t* data() const { return weights_.get(); }

 private:
  std::int64_t outputs_, inputs_;
  bool paired_;
  struct Free {
    void operator()(std::uint16_t* weights) const;
  };
  std::unique_ptr<std::uint16_t[], Free> weights_;
};

// Scalar is the definition, its sums rounded once. AMX's are wrong by up to 2^-18 of the sum of the
// products' magnitudes where there are up to 2048 inputs, and it takes a subnormal for zero. A
// row's bits depend neither on the other rows nor on how the panels are shared.
enum class ProductTarget { kScalar, kAmx };
const char* product_target_name(ProductTarget target);

// What this machine and this build can run, the fastest first, kScalar last. The first call asks
// the kernel's permission to use AMX for the whole process.
std::span<const ProductTarget> product_targets();
ProductTarget product_target();
// For tests: what all threads use from now on; at first it is product_targets().front(). Throws
// std::invalid_argument if it is not one of product_targets().
void set_product_target(ProductTarget target);

// What becomes of the sums of a row, one for each output.
enum class ProductEnd {
  kStore,     // out = bf16(sum)
  kStoreF32,  // out = sum
  kAdd,       // out += sum, f32
  // out = bf16(g / (1 + e^-g) * u), g the sums of the first half of the outputs and u those of the
  // second; to a relative error of 2e-4 before it is rounded. Needs a paired matrix.
  kSiluMul,
  // So with u' = sqrt(8 / pi) (g + 0.044715 g^3) in the place of e's g: GELU as its tanh has it.
  kGeluMul,
};

constexpr bool is_paired(ProductEnd end) {
  return end == ProductEnd::kSiluMul || end == ProductEnd::kGeluMul;
}

struct Bf16Product {
  const Bf16Matrix& weights;
  const std::uint16_t* x = nullptr;  // [rows][x_stride], of which weights.inputs() are read
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  const float* bias = nullptr;  // [outputs], added to the sums first; or null
  ProductEnd end = ProductEnd::kStore;
  void* out = nullptr;  // [rows][out_stride]
  std::int64_t out_stride = 0;
};

// The outputs of panels [first_panel, end_panel), so that threads can share one product. Nothing of
// other panels is written. Returns the target that did the work, as its code says itself. Throws
// std::invalid_argument for what does not fit.
ProductTarget bf16_product(const Bf16Product& product, std::int64_t first_panel,
                           std::int64_t end_panel);

}  // namespace kv
