#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/int8_dot_cuda.hh"

#include <memory>
#include <stdexcept>
#include <vector>

namespace KV_CUDA_NAMESPACE {
namespace {

// A block of 256 threads makes 64 outputs x 64 tokens, a thread 4 x 4 of them. 16 quads of weights
// and of activations at a time lie in shared memory, quad by quad.
constexpr int kSide = 64, kStep = 16, kThreads = 256;
// The blocks of a launch are counted in 31 bits.
constexpr std::int64_t kMostTokens = 1 << 22;
constexpr int kWeightRow = kSide + 4;  // spreads a column over the banks

struct Args {
  const int* tiles;  // a quad of weights each
  int outputs, input_tiles, quads;
  const std::uint8_t* data[kCudaDotBlocks];
  int end_quad[kCudaDotBlocks];
  std::int64_t stride_tokens[kCudaDotBlocks];
  const std::int32_t* active;
  unsigned columns;  // blocks side by side
  std::int64_t tokens;
  std::int32_t* out;
  std::int64_t out_stride;
};

struct alignas(16) Four {
  int v[4];
};

// A quad of x - 128: the four bytes' upper bits inverted.
__device__ int activations(const Args& args, int quad, std::int64_t token) {
  int begin = 0;
  int block = 0;
  while (quad >= args.end_quad[block]) begin = args.end_quad[block++];
  const int* row = reinterpret_cast<const int*>(args.data[block] +
                                                4 * (quad - begin) * args.stride_tokens[block]);
  return row[token] ^ static_cast<int>(0x80808080u);
}

__device__ int weights(const Args& args, int quad, int output) {
  const std::int64_t tile = static_cast<std::int64_t>(output / 16) * args.input_tiles + quad / 16;
  return args.tiles[tile * 256 + output % 16 * 16 + quad % 16];
}

__global__ void dot(Args args) {
  alignas(16) __shared__ int w[kStep * kWeightRow];
  alignas(16) __shared__ int x[kStep * kSide];
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x % args.columns) * kSide;
  const int output = static_cast<int>(blockIdx.x / args.columns) * kSide;
  const int row = thread / 16 * 4, column = thread % 16 * 4;
  int sums[4][4] = {};
  for (int first = 0; first < args.quads; first += kStep) {
    for (int i = thread; i < kStep * kSide; i += kThreads) {
      const int step = i % kStep, other = i / kStep;  // neighbours read neighbouring weights
      const bool in_w = first + step < args.quads && output + other < args.outputs;
      const int quad_w = in_w && args.active ? args.active[first + step] : first + step;
      w[step * kWeightRow + other] = in_w ? weights(args, quad_w, output + other) : 0;
      const int step_x = i / kSide, other_x = i % kSide;  // neighbouring tokens
      const bool in_x = first + step_x < args.quads && token + other_x < args.tokens;
      const int quad_x = in_x && args.active ? args.active[first + step_x] : first + step_x;
      x[step_x * kSide + other_x] = in_x ? activations(args, quad_x, token + other_x) : 0;
    }
    __syncthreads();
    for (int step = 0; step < kStep; ++step) {
      const Four a = *reinterpret_cast<const Four*>(w + step * kWeightRow + row);
      const Four b = *reinterpret_cast<const Four*>(x + step * kSide + column);
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sums[i][j] = __dp4a(a.v[i], b.v[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
  if (token + column >= args.tokens) return;  // tokens are a multiple of 16: all four or none
  for (int i = 0; i < 4 && output + row + i < args.outputs; ++i) {
    std::int32_t* out = args.out + (output + row + i) * args.out_stride + token + column;
    if (reinterpret_cast<std::uintptr_t>(out) % sizeof(Four) == 0) {
      *reinterpret_cast<Four*>(out) = Four{{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}};
    } else {
      for (int j = 0; j < 4; ++j) out[j] = sums[i][j];
    }
  }
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

bool int8_dot_has_cuda() { return cuda_has_device(); }

void int8_dot_on_device(const CudaDot& job) {
  require(job.outputs >= 1 && job.outputs <= Int8Weights::kMaxOutputs && job.inputs >= 1 &&
              job.inputs <= Int8Weights::kMaxInputs,
          "int8_dot_cuda: size out of range");
  require(job.tokens >= 0 && job.tokens % 16 == 0 && job.tokens <= kMostTokens,
          "int8_dot_cuda: tokens are not a multiple of 16, or too many");
  require(job.out_stride >= job.tokens, "int8_dot_cuda: rows of the result overlap");
  Args args{};
  args.tiles = reinterpret_cast<const int*>(job.tiles);
  args.outputs = static_cast<int>(job.outputs);
  args.input_tiles = static_cast<int>((job.inputs + 63) / 64);
  const std::int64_t quads = (job.inputs + 3) / 4;
  std::int64_t end = 0;
  for (int i = 0; i < kCudaDotBlocks; ++i) {
    const QuadBlock& block = job.blocks[i];
    require(block.channels >= 0 && block.channels % 4 == 0 && block.channels / 4 <= quads - end,
            "int8_dot_cuda: the blocks do not have the weights' inputs");
    require(block.channels == 0 || block.stride_tokens >= job.tokens,
            "int8_dot_cuda: a block has too few tokens");
    end += block.channels / 4;
    args.data[i] = block.data;
    args.end_quad[i] = static_cast<int>(end);
    args.stride_tokens[i] = block.stride_tokens;
  }
  require(end == quads, "int8_dot_cuda: the blocks have too few channels");
  require(!job.active || (job.active_count >= 0 && job.active_count <= quads),
          "int8_dot_cuda: the list of quads is wrong");
  args.active = job.active;
  args.quads = static_cast<int>(job.active ? job.active_count : quads);
  args.tokens = job.tokens;
  args.out = job.out;
  args.out_stride = job.out_stride;
  if (job.tokens == 0) return;
  args.columns = static_cast<unsigned>((job.tokens + kSide - 1) / kSide);
  const auto rows = static_cast<unsigned>((job.outputs + kSide - 1) / kSide);
  cuda_launch(dot, args.columns * rows, kThreads, args);
}

void int8_dot_cuda(const Int8Weights& host_weights, std::span<const QuadBlock> blocks,
                   std::optional<std::span<const std::int32_t>> active, std::int64_t tokens,
                   std::int32_t* out, std::int64_t out_stride) {
  require(blocks.size() <= kCudaDotBlocks, "int8_dot_cuda: too many blocks");
  require(tokens >= 0 && tokens <= kMostTokens && out_stride >= tokens,
          "int8_dot_cuda: rows of the result overlap");
  CudaDot job;
  const auto tile_count =
      static_cast<std::size_t>(host_weights.output_tiles() * host_weights.input_tiles());
  const DeviceArray<std::int8_t> tiles(
      std::span<const std::int8_t>(host_weights.tiles(), 1024 * tile_count));
  std::vector<std::unique_ptr<DeviceArray<std::uint8_t>>> on_device;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const QuadBlock& block = blocks[i];
    require(block.channels > 0 && block.channels % 4 == 0 && block.stride_tokens >= tokens,
            "int8_dot_cuda: a block has too few tokens or channels");
    const std::int64_t last_row = (block.channels / 4 - 1) * block.stride_tokens;
    const std::span<const std::uint8_t> bytes(
        block.data, tokens ? static_cast<std::size_t>(4 * (last_row + tokens)) : 0);
    on_device.push_back(std::make_unique<DeviceArray<std::uint8_t>>(bytes));
    job.blocks[i] = {on_device.back()->data(), block.channels, block.stride_tokens};
  }
  std::int32_t last = -1;
  for (const std::int32_t q : active.value_or(std::span<const std::int32_t>())) {
    require(q > last && q < host_weights.quads(), "int8_dot_cuda: the list of quads is wrong");
    last = q;
  }
  // One more than needed: no list would mean all.
  std::vector<std::int32_t> list(1);
  if (active) list.assign(active->begin(), active->end()), list.push_back(0);
  const DeviceArray<std::int32_t> quads{std::span<const std::int32_t>(list)};
  job.active = active ? quads.data() : nullptr;
  job.active_count = active ? std::ssize(*active) : 0;
  const std::span<std::int32_t> result(
      out,
      tokens ? static_cast<std::size_t>((host_weights.outputs() - 1) * out_stride + tokens) : 0);
  DeviceArray<std::int32_t> sums{std::span<const std::int32_t>(result)};
  job.tiles = tiles.data();
  job.outputs = host_weights.outputs();
  job.inputs = host_weights.inputs();
  job.tokens = tokens;
  job.out = sums.data();
  job.out_stride = out_stride;
  int8_dot_on_device(job);
  sums.download(0, result);
}

}  // namespace KV_CUDA_NAMESPACE
